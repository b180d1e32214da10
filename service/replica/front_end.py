"""A front-end process: HTTP and decoding.

The engine process starts it as `python -m service.replica.front_end CHANNEL LISTENER PERMITS INDEX`, with the
descriptors it inherits.
"""

import logging
import mmap
import signal
import socket
import sys
from collections.abc import MutableSequence
from functools import partial
from types import FrameType
from typing import cast

from service.http.context import Context
from service.http.server import Server, accepting
from service.images.decoder import ImageDecoder
from service.link.channel import Channel, receive_one
from service.link.messages import Drain, ShutDown, ToFrontEnd, Welcome
from service.link.remote import RemoteEngine
from service.link.remote_points import RemoteOperatingPoints
from service.replica.heap import settle_heap
from service.settings import Settings
from weights.calibration.table import CalibrationTable
from weights.manifest import Manifest


class FrontEndServer(Server):
    """The server of a front end: ends when the engine process says so, or is gone; not while it only stands still."""

    watches_engine = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Nothing: signals meant for the replica reach this process too; the engine process decides."""

    def note(self, message: Drain | ShutDown) -> None:
        """Do what the engine process says."""
        self.context.draining = True
        if isinstance(message, ShutDown):
            self.should_exit = True


def run(channel: socket.socket, listener: socket.socket, permits_taken: MutableSequence[int], index: int) -> int:
    """Serve until told to stop; returns the process's exit code."""
    try:
        welcome: Welcome = receive_one(channel, ToFrontEnd)
    except EOFError:
        return 1
    settings = Settings.model_validate(welcome.settings)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    engine = RemoteEngine(
        welcome,
        partial(Channel[ToFrontEnd].open, channel, ToFrontEnd),
        max_inflight=settings.max_inflight,
        permits_taken=permits_taken,
        index=index,
    )
    server = FrontEndServer(context_of(welcome, settings, engine))
    engine.on_message, engine.on_lost = server.note, server.end_at_once
    settle_heap()
    server.run(sockets=accepting(listener))
    return 1 if server.failed else 0


def context_of(welcome: Welcome, settings: Settings, engine: RemoteEngine) -> Context:
    """What routes work with: nothing but what the engine process says, since the model's folder may have changed."""
    manifest = Manifest.model_validate_json(welcome.manifest)
    return Context(
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


def main() -> int:
    """Take over what was inherited, and run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel_fd, listener_fd, permits_fd, index = map(int, sys.argv[1:])
    # A view of integers can be read and written like a list of them.
    permits = cast(MutableSequence[int], memoryview(mmap.mmap(permits_fd, 0)).cast("q"))
    return run(socket.socket(fileno=channel_fd), socket.socket(fileno=listener_fd), permits, index)


if __name__ == "__main__":
    sys.exit(main())
