"""`dvt serve`: one process, or an engine process with front ends, until a signal or the engine's death."""

import logging
import os
import socket

from service.api.context import Context
from service.backend import Backend, build
from service.descriptors import make_room
from service.heap import settle_heap
from service.images import ImageDecoder
from service.listener import listen
from service.processes.replica import Replica
from service.server import StandaloneServer
from service.settings import Settings, kubernetes_variables, unknown_variables

_logger = logging.getLogger(__name__)


def assemble(settings: Settings) -> Context:
    """Everything of a replica in this process; nothing runs yet.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, or thresholds may give way but nothing says how far.
    """
    return context_of(build(settings), settings)


def serve(settings: Settings, listener: socket.socket) -> int:
    """Serve until a signal or the engine's death; returns the process's exit code.

    Args:
        listener: bound to the address.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, or the configuration's store cannot be used.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in unknown_variables(os.environ):
        _logger.warning("%s is not a setting: is it misspelt?", name)
    if ignored := kubernetes_variables(os.environ):
        _logger.info("ignored, since Kubernetes sets them for a service of such a name: %s", ", ".join(ignored))
    make_room(settings.max_connections)
    backend = build(settings)
    code = run(backend, settings, listener)
    if backend.engine.running:
        # A warm-up or a hung device; the interpreter's own end would crash under a thread that computes.
        logging.shutdown()
        os._exit(code)
    return code


def run(backend: Backend, settings: Settings, listener: socket.socket) -> int:
    """Serve a backend until a signal or its engine's death; returns the process's exit code."""
    settle_heap()
    if settings.http_workers:
        return Replica(backend, settings, listener).run()
    server = StandaloneServer(context_of(backend, settings))
    listen(listener)
    server.run(sockets=[listener])
    return 1 if server.failed else 0


def context_of(backend: Backend, settings: Settings) -> Context:
    """What routes in this very process work with."""
    manifest = backend.model.manifest
    return Context(
        settings=settings,
        manifest=manifest,
        engine=backend.engine,
        operating_points=backend.operating_points,
        metrics=backend.metrics,
        decoder=ImageDecoder(
            manifest.preprocessing, max_bytes=settings.max_body_bytes, max_pixels=settings.max_image_pixels
        ),
        device=backend.device,
        calibration=backend.model.calibration,
    )
