"""The HTTP server around an application: uvicorn with this service's settings and way of ending."""

import asyncio
import logging
import math
import os
import socket
import time
from types import FrameType
from typing import cast

import uvicorn

from service.engine.engine import EngineState
from service.http.app import create_app
from service.http.connection import Bounds, Connection, connections
from service.http.context import Context
from service.http.descriptors import affordable_connections
from service.http.door import Door
from service.http.listener import url_of

_logger = logging.getLogger(__name__)

# Longer than a proxy keeps its idle connections, so that it never sends into one that is being closed here.
_KEEP_ALIVE_S = 75
_BACKLOG = 2048
# A client that sends a body of up to so many times the limit can send it all, and then reads that it was too large.
_UNREAD_SHARE = 2
# Uvicorn ticks ten times a second.
_SWEEP_TICKS = 10
# What is left of requests once the engine is dead: their errors are written in far less.
_LAST_WORDS_S = 0.3
_CLOSE = (b"connection", b"close")


# With one, a new connection waited 12 s and more at twice the capacity.
_ACCEPTS_PER_TURN = 16


def accepting(listener: socket.socket) -> list[socket.socket]:
    """The listener under several descriptors, for a server to accept from.

    libuv takes one connection from each in a turn of the event loop, and under load a turn takes tens of milliseconds.
    """
    # Not `listener.dup()`, which makes what it copies blocking: other processes are accepting from this very socket,
    # and whoever finds it empty in that moment would wait in `accept` instead of in its event loop.
    return [listener, *(socket.socket(fileno=os.dup(listener.fileno())) for _ in range(_ACCEPTS_PER_TURN - 1))]


class Server(uvicorn.Server):
    """Uvicorn that ends at once when the engine is dead, and lets go of its connections while it drains.

    Attributes:
        watches_engine: whether it ends when the engine is dead or stuck, by itself.
        failed: whether something was given up.
        num_cut_off: requests that were not done when the time to drain was over.
    """

    watches_engine = True

    def __init__(self, context: Context) -> None:
        settings = context.settings
        on_death = self.end_at_once if self.watches_engine else None
        config = uvicorn.Config(
            create_app(context, on_death=on_death, on_cut_off=self._note_cut_off),
            host=settings.http_host,
            port=settings.http_port,
            http=connections(
                Bounds(
                    timeout_s=settings.client_timeout_s,
                    max_connections=affordable_connections(settings.max_connections),
                    max_unread_bytes=_UNREAD_SHARE * settings.max_body_bytes,
                ),
                door=Door(context),
            ),
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
        self.num_cut_off = 0
        self.context = context

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second; whether to shut down."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(Connection, connection).sweep(now)
        ending = await super().on_tick(counter)
        # Who holds a connection learns with its next answer that there will be none after it. Otherwise a request
        # could arrive in the moment in which its idle connection is closed.
        if self.context.draining and _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers.append(_CLOSE)
        return ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests under way, as long as they may take."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_S)
        if self.num_cut_off:
            timeout_s = self.context.settings.drain_timeout_s
            _logger.error("%d request(s) cut off after the drain timeout of %g s", self.num_cut_off, timeout_s)

    def _note_cut_off(self) -> None:
        self.num_cut_off += 1
        self.failed = True

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
        # Nobody has been told to come here yet, so nobody needs time to go elsewhere.
        starting = self.context.engine.state is EngineState.STARTING
        self._exit_at = time.monotonic() + (0.0 if starting else self.context.settings.drain_delay_s)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say where."""
        await super().startup(sockets)
        for listener in sockets or ():
            _logger.info("running on %s", url_of(listener))

    async def on_tick(self, counter: int) -> bool:
        """Whether to shut down; asked ten times a second."""
        if time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)
