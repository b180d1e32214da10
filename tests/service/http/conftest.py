"""The application around the real engine with a scripted runner, and a client that checks each answer's description."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from manifests import manifest_of
from PIL import Image

from models.config import CascadeConfig
from service.configuration.operating_points import OperatingPoints
from service.engine.engine import Engine, EngineState
from service.engine.task import StagePrediction, Task
from service.errors import NotReadyError
from service.http.app import create_app
from service.http.context import Context
from service.metrics import Metrics
from service.replica.backend import Backend
from service.replica.in_process import linked
from service.settings import Settings
from weights.calibration.table import CalibrationTable
from weights.store import StoredModel

STAGE_MACS = (100, 300, 900, 2700)
BASELINE_MACS = 4000
CLASS_NAMES = ("cat", "dog", "ship", "frog", "deer", "bird", "car", "horse", "plane", "truck")
RED_PER_STAGE = 60
POISON = 250


@dataclass
class ScriptedRunner:
    """A red of `60 * s` is confident from stage s on, with class s; a red of `POISON` breaks its batch."""

    step_s: float = 0.0
    stage_macs: tuple[int, ...] = STAGE_MACS
    baseline_macs: int = BASELINE_MACS
    dtype: str = "float32"
    warm: threading.Event = field(default_factory=threading.Event)
    may_run: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    runs: list[tuple[int, int]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    _last: Sequence[Task] = ()

    def __post_init__(self) -> None:
        self.warm.set()
        self.may_run.set()

    def warm_up(self) -> None:
        self.warm.wait()

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        self.runs.append((stage, len(tasks)))
        self.may_run.wait()
        time.sleep(self.step_s)
        if self.error is not None:
            raise self.error
        reds = [int(task.pixels[0, 0, 0]) for task in tasks]
        if POISON in reds:
            raise ValueError("a secret detail of the stage")
        self._last = tasks
        return [self._predict(stage, red, task) for red, task in zip(reds, tasks, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        self.kept.update(self._last[row].task_id for row in rows)

    def release(self, tasks: Sequence[Task]) -> None:
        self.kept.difference_update(task.task_id for task in tasks)

    def _predict(self, stage: int, red: int, task: Task) -> StagePrediction:
        best = min(red // RED_PER_STAGE, 3)
        confidence = 0.95 if stage >= best else 0.5
        others = [index for index in range(len(CLASS_NAMES)) if index != best]
        rest = (1 - confidence) / len(others)
        return StagePrediction(
            stage=stage,
            indices=(best, *others)[: task.policy.top_k],
            probs=(confidence, *[rest] * len(others))[: task.policy.top_k],
        )


@dataclass
class Serving:
    """A started application with its parts."""

    app: FastAPI
    client: httpx.AsyncClient
    context: Context
    backend: Backend
    runner: ScriptedRunner
    deaths: list[bool]

    async def classify(self, content: object, query: str = "", **headers: str | bytes) -> httpx.Response:
        """Ask for the class of one PNG."""
        headers = {"content-type": "image/png", **headers}
        return await self.client.post(f"/classify{query}", content=content, headers=headers)

    async def metric(self, name: str, **labels: str) -> float:
        """A sample of the replica's metrics, with all that was counted so far."""
        await self.heard()
        return self.backend.metrics.registry.get_sample_value(name, labels) or 0.0

    async def total(self, name: str) -> float:
        """The sum over all labels."""
        await self.heard()
        collected = self.backend.metrics.registry.collect()
        return sum(sample.value for metric in collected for sample in metric.samples if sample.name == name)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not (await result if isawaitable(result := condition()) else result):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def until_metric(self, value: float, name: str, **labels: str) -> None:
        async def is_reached() -> bool:
            return await self.metric(name, **labels) == value

        await self.until(is_reached)

    def at_rest(self) -> bool:
        queued = any(self.backend.engine.queue_depths())
        return self.context.engine.inflight == 0 and not queued and not self.runner.kept

    async def images_are_accounted_for(self) -> bool:
        ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
        return await self.total("dvt_images_total") == sum([await self.total(name) for name in ends])

    async def heard(self) -> None:
        """Wait until the engine has received what was sent before: messages keep their order."""
        with suppress(NotReadyError):
            await self.context.engine.scrape()


def png(red: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


_MANIFEST = manifest_of(
    CascadeConfig(image_size=28, num_classes=10, embed_dim=6, depth=1, num_heads=1),
    name="test-model",
    class_names=CLASS_NAMES,
    thresholds=(0.9, 0.8, 0.7),
    temperatures=(1.0, 1.1, 1.2, 1.3),
    provenance={"data": "none"},
)


def _backend(runner: ScriptedRunner, settings: Settings, calibration: CalibrationTable | None) -> Backend:
    metrics = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(
        runner, observer=metrics, max_inflight=settings.max_inflight, max_batch_size=settings.max_batch_size
    )
    points = OperatingPoints(_MANIFEST.thresholds)
    metrics.watch(engine, points)
    model = StoredModel(_MANIFEST, cascade=None, path=Path(), calibration=calibration)
    return Backend(model=model, engine=engine, operating_points=points, metrics=metrics, device="cpu")


# The answers that the description declares, by path and method; they are the same whatever the settings. Deriving them
# takes longer than most tests.
_declared: dict[str, dict[str, Any]] = {}


def _templated(path: str) -> str:
    """The path as in the description."""
    return re.sub(r"/versions/[^/]+", "/versions/{version}", re.sub(r"^/v2/models/[^/]+", "/v2/models/{name}", path))


def _is_a_page(path: str) -> bool:
    return path in ("/docs", "/openapi.json") or path.partition("/console")[0] == ""


def _check_is_declared(app: FastAPI) -> Callable[[httpx.Response], object]:
    """Makes every test of a route a test of its OpenAPI description."""
    if not _declared:
        _declared.update(app.openapi()["paths"])

    async def check(response: httpx.Response) -> None:
        path = _templated(response.request.url.path)
        method = response.request.method.replace("HEAD", "GET").lower()
        operation = _declared.get(path, {}).get(method)
        if operation is None:
            assert response.status_code in (404, 405) or _is_a_page(response.request.url.path)
            return
        declared = operation["responses"].get(str(response.status_code))
        assert declared is not None, f"{response.status_code} is not declared: {response.request.url}"
        assert response.is_redirect or response.headers["content-type"].partition(";")[0] in declared["content"]
        headers = declared.get("headers", {})
        assert all(name in response.headers for name, header in headers.items() if header["required"])

    return check


Serve = Callable[..., AbstractAsyncContextManager[Serving]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start an application: `async with serve(max_inflight=1) as serving`."""

    @asynccontextmanager
    async def start(
        *,
        runner: ScriptedRunner | None = None,
        wait_ready: bool = True,
        peer: str = "127.0.0.1",
        calibration: CalibrationTable | None = None,
        **settings: object,
    ) -> AsyncIterator[Serving]:
        runner = runner or ScriptedRunner()
        chosen = Settings(**{"drain_timeout_s": 5, **settings})
        backend = _backend(runner, chosen, calibration)
        deaths: list[bool] = []
        async with AsyncExitStack() as stack:
            context = await stack.enter_async_context(linked(backend, chosen))
            context.engine.on_lost = lambda: deaths.append(True)
            app = create_app(context)
            transport = httpx.ASGITransport(app, client=(peer, 12345))
            await stack.enter_async_context(app.router.lifespan_context(app))
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=transport,
                    base_url="http://service",
                    event_hooks={"response": [_check_is_declared(app)]},
                )
            )
            serving = Serving(app, client, context, backend, runner, deaths)
            try:
                if wait_ready:
                    await serving.until(lambda: context.engine.state is EngineState.READY)
                yield serving
            finally:
                runner.warm.set()
                runner.may_run.set()

    for name in ("DVT_ADMIN_KEY", "DVT_ADMIN_KEY_FILE", "DVT_API_KEY", "DVT_API_KEY_FILE", "DVT_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    return start


@pytest.fixture
async def serving(serve: Serve) -> AsyncIterator[Serving]:
    async with serve() as started:
        yield started


@pytest.fixture
def image() -> Callable[..., bytes]:
    """A PNG of one colour: `image(60)` exits at stage 1."""
    return png


@pytest.fixture
def make_runner() -> type[ScriptedRunner]:
    return ScriptedRunner
