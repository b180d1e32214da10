"""The HTTP server around an application: uvicorn with this service's settings and way of ending."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn

from service.http.access_log import AccessLog, Client
from service.http.app import create_app
from service.http.connection import Bounds, Connection, connections
from service.http.context import Context
from service.http.descriptors import affordable_connections
from service.link.messages import Drain, ShutDown

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
    """Uvicorn that ends when the engine process says so or is gone, and closes its connections while it drains.

    Attributes:
        failed: whether something was given up.
        num_cut_off: requests that were not done when the time to drain was over.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._access_log = AccessLog(context.settings.access_log)
        config = uvicorn.Config(
            create_app(context, on_cut_off=self._note_cut_off),
            host=settings.http_host,
            port=settings.http_port,
            http=connections(
                Bounds(
                    timeout_s=settings.client_timeout_s,
                    max_connections=affordable_connections(settings.max_connections),
                    max_unread_bytes=_UNREAD_SHARE * settings.max_body_bytes,
                ),
                on_refusal=self._note_refusal,
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
        context.engine.on_message, context.engine.on_lost = self.note, self.end_at_once

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: they are meant for the replica, and the engine process decides."""
        yield

    def note(self, message: Drain | ShutDown) -> None:
        """Do what the engine process says."""
        self.context.draining = True
        if isinstance(message, ShutDown):
            self.should_exit = True

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

    def _note_refusal(self, status: int, client: Client) -> None:
        self.context.metrics.request_done(status, None)
        self._access_log.refused(client, status)

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
