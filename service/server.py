"""The HTTP server around an application: uvicorn with this service's settings and way of ending."""

import asyncio
import math
import socket
import time
from types import FrameType

import uvicorn

from service.api.app import create_app
from service.api.context import Context

# Longer than a proxy keeps its idle connections, so that it never sends into one that is being closed here.
_KEEP_ALIVE_S = 75
_BACKLOG = 2048
# What is left of requests once the engine is dead: their errors are written in far less.
_LAST_WORDS_S = 0.3


# With one, a new connection waited 12 s and more at twice the capacity.
_ACCEPTS_PER_TURN = 16


def accepting(listener: socket.socket) -> list[socket.socket]:
    """The listener under several descriptors, for a server to accept from.

    libuv takes one connection from each in a turn of the event loop, and under load a turn takes tens of milliseconds.
    """
    return [listener, *(listener.dup() for _ in range(_ACCEPTS_PER_TURN - 1))]


class Server(uvicorn.Server):
    """Uvicorn that ends at once when the engine is dead.

    Attributes:
        failed: whether something was given up.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        config = uvicorn.Config(
            create_app(context, on_death=self.end_at_once),
            host=settings.http_host,
            port=settings.http_port,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            ws="none",
            # Who is on loopback decides who may change the configuration: never what a header claims.
            proxy_headers=False,
            lifespan="on",
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        )
        super().__init__(config)
        self.failed = False
        self.context = context

    def end_at_once(self) -> None:
        """Write the answers that are ready, and end; only a new process can help."""
        self.failed = self.should_exit = True
        # A client that is still sending its body must not keep a dead service up.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._force_exit)

    def _force_exit(self) -> None:
        self.force_exit = True


class StandaloneServer(Server):
    """The server of a process that is the whole replica.

    Stays open for a while after the first signal, no longer ready, and closes at the second.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._exit_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at the second; the process then ends with a code of its own."""
        if self.context.draining:
            self.failed = self.should_exit = self.force_exit = True
            return
        self.context.draining = True
        self._exit_at = time.monotonic() + self.context.settings.drain_delay_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to shut down; asked ten times a second."""
        if time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)
