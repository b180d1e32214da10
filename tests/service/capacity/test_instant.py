"""The service around a runner that computes nothing."""

import asyncio

import httpx

from service.capacity.instant import InstantRunner, instant_backend
from service.capacity.sample_images import sample_jpegs
from service.engine.engine import EngineState
from service.http.app import create_app
from service.replica.in_process import linked
from service.settings import Settings


async def test_instant_backend_answers_like_the_service_and_counts_once(model):
    settings = Settings(model=str(model), device="cpu")
    backend = instant_backend(settings)
    (jpeg,) = sample_jpegs("small", 1)
    async with linked(backend, settings) as context:
        application = create_app(context)
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://dvt") as client,
        ):
            await asyncio.to_thread(backend.engine.wait_ready, 10)
            await asyncio.sleep(0.1)
            answer = (await client.post("/classify", content=jpeg, headers={"content-type": "image/jpeg"})).json()
            metrics = (await client.get("/metrics")).text

    assert (answer["label"], answer["confidence"], answer["exit"]["stage"]) == ("a", 1.0, 0)
    assert 'dvt_exits_total{reason="confident",stage="0"} 1.0' in metrics
    assert backend.engine.state is EngineState.STOPPED


def test_instant_runner_gives_as_many_classes_as_are_asked_for():
    runner = InstantRunner((1, 2), 3, num_classes=2)

    assert runner._prediction(0, 2).indices == (0, 1)
    assert runner._prediction(1, 1).probs == (1.0,)
