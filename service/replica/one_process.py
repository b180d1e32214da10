"""A replica in one process or several."""

import socket

from service.http.context import Context
from service.http.listener import listen
from service.http.server import StandaloneServer
from service.images.decoder import ImageDecoder
from service.replica.backend import Backend
from service.replica.engine_process import Replica
from service.replica.heap import settle_heap
from service.settings import Settings


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
