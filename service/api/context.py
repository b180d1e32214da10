"""What the routes work with, put together once when the process starts."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.engine.engine import Engine, EngineState
from service.engine.operating import OperatingPoints
from service.images import ImageDecoder
from service.metrics import Metrics
from service.settings import Settings
from weights.calibration.table import CalibrationTable
from weights.store import Manifest


@dataclass(slots=True, kw_only=True)
class Context:
    """The parts of one running service.

    Attributes:
        device: where the stages really run.
        dtype: what they are really computed in.
        calibration: what the exits did on held-out images, where the model has such a table.
        decode_pool: threads that decode images.
        draining: turned on when the process was asked to end; not ready from then on, though still answering.
    """

    settings: Settings
    manifest: Manifest
    engine: Engine
    operating_points: OperatingPoints
    metrics: Metrics
    decoder: ImageDecoder
    device: str
    dtype: str
    calibration: CalibrationTable | None = None
    decode_pool: ThreadPoolExecutor = field(init=False)
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
        self.decode_pool = ThreadPoolExecutor(self.settings.decode_threads, thread_name_prefix="decode")
        self.metrics.watch(
            queue_depths=self.engine.queue_depths,
            thresholds=lambda: self.operating_points.current.thresholds,
            config_version=lambda: self.operating_points.current.version,
        )


async def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context_of)]
"""A route's parameter of this type receives the application's context."""
