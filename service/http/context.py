"""What the routes work with, put together once when the process starts."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from service.configuration.forecast import Forecast
from service.engine.engine import EngineState
from service.engine.operating import Change, History, OperatingPoint
from service.engine.permits import Permits
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels
from service.images.decoder import ImageDecoder
from service.images.lanes import Lanes
from service.keys import KeyRing
from service.settings import Settings
from weights.calibration.table import CalibrationTable
from weights.manifest import Manifest


class Submitted(Protocol):
    """An image the engine works on."""

    @property
    def future(self) -> Future[Answer]:
        """Ends with the answer, or with one of `service.errors`."""


class EngineInterface(Protocol):
    """The engine as the routes see it, on a thread of this process or in a process of its own."""

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""

    @property
    def stage_macs(self) -> tuple[int, ...]:
        """MACs of each stage for one image."""

    @property
    def baseline_macs(self) -> int:
        """MACs of one plain ViT at the last grid, for one image."""

    @property
    def inflight(self) -> int:
        """How many images are admitted, over all front ends."""

    @property
    def busy_s(self) -> float:
        """Seconds the step in progress has taken so far."""

    @property
    def dtype(self) -> str:
        """Floating point type the stages are computed in."""

    def start(self) -> None:
        """Begin; called once, on the event loop."""

    async def close(self, *, timeout_s: float) -> None:
        """Finish what was submitted, within this time, and end."""

    def require_room(self, ahead: int = 0) -> None:
        """Raise `OverloadedError` when not a single permit is left, or as many others are about to take them."""

    def admit(self, count: int) -> Permits:
        """Take one permit per image, at once or not at all."""

    def submit(self, pixels: Pixels, policy: Policy) -> Submitted:
        """Send one admitted image on its walk."""

    def cancel(self, task: Any) -> None:
        """Give up what `submit` returned."""


class LiveConfiguration(Protocol):
    """The configuration of the replica."""

    @property
    def current(self) -> OperatingPoint:
        """What requests admitted now are given."""

    @property
    def history(self) -> History:
        """The last versions, the current one at the end."""

    async def start(self) -> None:
        """Get into step with what is stored; called once, before requests come."""

    async def change(self, change: Change, *, if_version: Sequence[int] | None = None) -> OperatingPoint:
        """Put new thresholds into force everywhere."""

    async def close(self) -> None:
        """Let go of the store."""


class RequestCounts(Protocol):
    """Counts what happens to requests and images before the engine has them."""

    def request_done(self, status: int, duration_s: float | None) -> None:
        """A request was answered with this status."""

    def images_presented(self, count: int) -> None:
        """A request brought this many images."""

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused."""

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped since their client left."""

    async def scrape(self, accept: str = "") -> bytes:
        """All metrics of the replica, in the text format that an `Accept` header asks for."""


@dataclass(slots=True, kw_only=True)
class Context:
    """The parts of one running service.

    Attributes:
        device: where the stages really run.
        calibration: what the exits did on held-out images, where the model has such a table.
        decode_pool: threads that decode images, and do what else would hold up the event loop.
        lanes: which of them decodes what.
        forecast: what `calibration` says about thresholds.
        admin_keys: who may change the configuration; None for whoever is on loopback.
        api_keys: who may classify; None for anybody.
        draining: turned on when the process was asked to end; not ready from then on, though still answering.
    """

    settings: Settings
    manifest: Manifest
    engine: EngineInterface
    operating_points: LiveConfiguration
    metrics: RequestCounts
    decoder: ImageDecoder
    device: str
    calibration: CalibrationTable | None = None
    decode_pool: ThreadPoolExecutor = field(init=False)
    lanes: Lanes = field(init=False)
    forecast: Forecast = field(init=False)
    admin_keys: KeyRing | None = field(init=False)
    api_keys: KeyRing | None = field(init=False)
    draining: bool = False

    @property
    def alive(self) -> bool:
        """Whether the engine can still make progress: neither dead nor stuck in one batch."""
        return self.engine.state is not EngineState.DEAD and self.engine.busy_s <= self.settings.max_step_s

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return self.alive and self.engine.state is EngineState.READY and not self.draining

    @property
    def state(self) -> str:
        """The engine's state as an operator sees it."""
        if self.alive and self.draining:
            return EngineState.DRAINING
        return self.engine.state if self.alive else EngineState.DEAD

    def __post_init__(self) -> None:
        self.forecast = Forecast(self.calibration, self.engine.stage_macs, self.engine.baseline_macs)
        self.admin_keys, self.api_keys = self.settings.admin_keys, self.settings.api_keys
        self.decode_pool = ThreadPoolExecutor(self.settings.decode_threads, thread_name_prefix="decode")
        self.lanes = Lanes(self.decoder, self.decode_pool)


async def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context_of)]
"""A route's parameter of this type receives the application's context."""
