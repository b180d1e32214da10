"""Puts the parts together, and runs the server around them."""

import logging
import math
import signal
import sys
import time
from types import FrameType

import torch
import uvicorn

from service.api.app import create_app
from service.api.context import Context
from service.engine.engine import Engine
from service.engine.operating import OperatingPoints
from service.engine.preparation import choose_dtype
from service.engine.runner import TorchRunner
from service.images import ImageDecoder
from service.metrics import Metrics
from service.settings import Settings, SettingsError
from weights.store import load

_logger = logging.getLogger(__name__)

# Longer than a proxy keeps its idle connections, so that it never sends into one that is being closed here.
_KEEP_ALIVE_S = 75
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def assemble(settings: Settings) -> Context:
    """Load the model and build everything around it; nothing runs yet.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here.
    """
    stored = load(settings.model)
    manifest = stored.manifest
    if "warning" in manifest.provenance:
        _logger.warning("%s: %s", manifest.name, manifest.provenance["warning"])
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    device = _device(settings.device)
    if settings.dtype == "auto":
        dtype = choose_dtype(stored.cascade, device=device, max_batch_size=settings.max_batch_size)
    else:
        dtype = _DTYPES[settings.dtype]
    runner = TorchRunner(
        stored.cascade,
        mean=manifest.preprocessing.mean,
        std=manifest.preprocessing.std,
        temperatures=manifest.temperatures,
        max_batch_size=settings.max_batch_size,
        capacity=settings.max_inflight,
        device=device,
        dtype=dtype,
        cuda_graphs=settings.cuda_graphs,
    )
    metrics = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(
        runner, observer=metrics, max_inflight=settings.max_inflight, max_batch_size=settings.max_batch_size
    )
    return Context(
        settings=settings,
        manifest=manifest,
        engine=engine,
        operating_points=OperatingPoints(manifest.thresholds),
        metrics=metrics,
        decoder=ImageDecoder(
            manifest.preprocessing, max_bytes=settings.max_body_bytes, max_pixels=settings.max_image_pixels
        ),
        device=device,
        dtype=runner.dtype,
        calibration=stored.calibration,
    )


def serve(settings: Settings) -> int:
    """Serve until a signal or the engine's death; returns the process's exit code.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The server has its own handler later. As a container's first process, this one would ignore the default.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    context = assemble(settings)
    server = Server(context)
    server.run()
    return 1 if server.failed else 0


class Server(uvicorn.Server):
    """Uvicorn that stays open for a while after the first signal, no longer ready, and closes at the second.

    Attributes:
        failed: whether something was given up: the engine died, or a second signal came.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        config = uvicorn.Config(
            create_app(context, on_death=self._on_death),
            host=settings.http_host,
            port=settings.http_port,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            ws="none",
            # Who is on loopback decides who may change the configuration: never what a header claims.
            proxy_headers=False,
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        )
        super().__init__(config)
        self.failed = False
        self._context = context
        self._exit_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at the second; the process then ends with a code of its own."""
        if self._context.draining:
            self.failed = self.should_exit = self.force_exit = True
            return
        self._context.draining = True
        self._exit_at = time.monotonic() + self._context.settings.drain_delay_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to shut down; asked ten times a second."""
        if time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _on_death(self) -> None:
        self.failed = self.should_exit = True


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    # torch raises RuntimeError for a name it does not know, AssertionError where it was built without CUDA.
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"DVT_DEVICE: {name!r} cannot be used here; known are auto, cpu and cuda[:N]") from error
    return name
