"""The objects that all routes share, built once when the process starts."""

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
        device: the device that the stages run on.
        calibration: the exits' results on held-out images; None if the model has no such table.
        decode_pool: threads for decoding and for other work that would block the event loop.
        lanes: assigns each image to a decoder thread.
        forecast: predicts accuracy and cost of thresholds from `calibration`.
        admin_keys: keys that may change the configuration; None if loopback may.
        api_keys: keys that may classify; None if everybody may.
        draining: set when the process is asked to end. It is not ready from then on, but still answers.
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
    def state(self) -> EngineState:
        """The engine's state, or draining, as an operator sees it."""
        state = self.engine.state
        return EngineState.DRAINING if self.draining and state is not EngineState.DEAD else state

    @property
    def alive(self) -> bool:
        """Whether the engine can still make progress."""
        return self.state is not EngineState.DEAD

    @property
    def ready(self) -> bool:
        """Whether the service takes new requests."""
        return self.state is EngineState.READY

    @classmethod
    def of(cls, welcome: Welcome, channel: socket.socket, permits_taken: MutableSequence[int], index: int) -> Self:
        """The context of one front end, built from the engine's message: the model's folder may have changed since.

        Args:
            channel: socket connected to the engine's gateway.
            permits_taken: number of permits in use at each front end; this one's is `permits_taken[index]`.
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
"""Annotates a route's parameter that receives the context."""
