"""What the routes work with, put together once when the process starts."""

import socket
from collections.abc import MutableSequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Self

from fastapi import Depends, Request

from service.configuration.forecast import Forecast
from service.engine.engine import EngineState
from service.images.decoder import ImageDecoder
from service.images.lanes import Lanes
from service.keys import KeyRing
from service.link.counts import Counts
from service.link.messages import Welcome
from service.link.remote import RemoteEngine, RemoteOperatingPoints
from service.settings import Settings
from weights.calibration.table import CalibrationTable
from weights.manifest import Manifest


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
    engine: RemoteEngine
    operating_points: RemoteOperatingPoints
    metrics: Counts
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
        """Whether the engine can still make progress."""
        return self.engine.state is not EngineState.DEAD

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

    @classmethod
    def of(cls, welcome: Welcome, channel: socket.socket, permits_taken: MutableSequence[int], index: int) -> Self:
        """The context of one front end: nothing but what the engine says, since the model's folder may have changed.

        Args:
            channel: connected to the engine's gateway.
            permits_taken: permits out at each front end; this one's are `permits_taken[index]`.
        """
        settings = Settings.model_validate(welcome.settings)
        manifest = Manifest.model_validate_json(welcome.manifest)
        engine = RemoteEngine(
            welcome,
            channel,
            max_inflight=settings.max_inflight,
            permits_taken=permits_taken,
            index=index,
        )
        return cls(
            settings=settings,
            manifest=manifest,
            engine=engine,
            operating_points=RemoteOperatingPoints(engine),
            metrics=engine.counts,
            decoder=ImageDecoder(
                manifest.preprocessing, max_bytes=settings.max_body_bytes, max_pixels=settings.max_image_pixels
            ),
            device=welcome.device,
            calibration=None if welcome.calibration is None else CalibrationTable.from_bytes(welcome.calibration),
        )

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
