"""A converted checkpoint behind HTTP: the authors' model, with real early exit, answering with its own numbers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from images import encode
from parity import KEPT, Golden, converted_model
from reference import reference_forward
from torch import Tensor

from service.http.app import create_app
from service.replica.backend import build
from service.replica.in_process import linked
from service.settings import Settings

GRIDS = (7, 10, 14)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Golden]:
    folder = tmp_path_factory.mktemp("converted") / "model"
    return folder, converted_model(folder)


@pytest.fixture
async def client(converted: tuple[Path, Golden]) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(model=str(converted[0]), max_batch_size=1, dtype="float32", config_store="memory")
    async with linked(build(settings), settings) as context:
        app = create_app(context)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=60) as client,
        ):
            async with asyncio.timeout(120):
                while not context.ready:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield client


async def answer_at(client: httpx.AsyncClient, image: bytes, stage: int) -> Tensor:
    """The probabilities an image gets when it leaves at `stage`, by class index."""
    never_before = ",".join("0" if index == stage else "2" for index in range(len(GRIDS) - 1))
    response = await client.post(
        f"/classify?top_k=10&thresholds={never_before}", content=image, headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["exit"]["grid"] == GRIDS[stage]
    probs = torch.zeros(10, dtype=torch.float64)
    for entry in document["top"]:
        probs[entry["index"]] = entry["confidence"]
    return probs


async def test_classify_converted_model_picture_equals_plain_reference(client, converted) -> None:
    """As the float64 reference on the same pixels, which `tests/models` holds against the authors' numbers."""
    cascade = converted[1].cascade
    pixels = np.random.default_rng(2).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    # 256 to 224 is a centre crop of a 256-pixel picture that needs no resizing.
    picture = np.pad(pixels, ((0, 0), (16, 16), (16, 16)))
    images = (torch.from_numpy(pixels).double() / 255 - mean) / std
    expected = reference_forward(cascade.double().state_dict(), cascade.config, images[None])
    for stage in range(len(GRIDS)):
        probs = expected[stage].logits[0].double().softmax(dim=-1)
        torch.testing.assert_close(await answer_at(client, encode(picture), stage), probs, atol=1e-5, rtol=0)


async def test_config_operating_point_of_a_converted_model_is_selected_by_name(client) -> None:
    (model,) = (await client.get("/models")).json()["models"]
    assert [point["name"] for point in model["operating_points"]] == [f"budget-{number}" for number in range(1, 60)]
    changed = (await client.patch("/config", json={"operating_point": "budget-17"})).json()
    assert changed["operating_point"] == "budget-17"
    assert changed["thresholds"] == model["operating_points"][16]["thresholds"]
    refused = await client.patch("/config", json={"operating_point": "budget-60"})
    assert refused.status_code == 422
    assert "'budget-60' is not one of the model's 59 (budget-1 to budget-59)" in refused.json()["detail"]
    both = await client.patch("/config", json={"operating_point": "budget-1", "thresholds": 0.5})
    assert both.status_code == 422
    assert (await client.get("/config")).json() == changed


def test_kept_parity_data_stays_under_three_megabytes() -> None:
    assert sum(file.stat().st_size for file in KEPT.iterdir()) < 3e6
