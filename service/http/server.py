"""The HTTP server: uvicorn with this service's settings and its way to end."""

import asyncio
import logging
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvicorn

from service.http.access_log import AccessLog, Client
from service.http.app import create_app
from service.http.connection import Bounds, Connection
from service.http.context import Context
from service.http.descriptors import affordable_connections
from service.http.listener import BACKLOG
from service.link.messages import Drain, ShutDown

_logger = logging.getLogger(__name__)

# Longer than a proxy keeps idle connections, so that the proxy never sends into one that is being closed here.
_KEEP_ALIVE_S = 75
# A client that sends a body of up to this many times the limit can send it all, and then read that it was too large.
_UNREAD_SHARE = 2
# Uvicorn ticks ten times a second.
_SWEEP_TICKS = 10
# The time to write the last errors after the engine died; they need far less.
_LAST_WORDS_S = 0.3
_CLOSE = (b"connection", b"close")


class Server(uvicorn.Server):
    """A uvicorn server that ends when the engine process says so or is gone, and closes its connections on draining.

    Attributes:
        failed: whether a request was cut off, or the engine process is gone.
        num_cut_off: number of requests that were not answered within the drain timeout.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        bounds = Bounds(
            timeout_s=settings.client_timeout_s,
            max_connections=affordable_connections(settings.max_connections),
            max_unread_bytes=_UNREAD_SHARE * settings.max_body_bytes,
        )
        config = uvicorn.Config(
            create_app(context, on_cut_off=self._note_cut_off),
            host=settings.http_host,
            port=settings.http_port,
            http=cast(type[asyncio.Protocol], partial(Connection, bounds=bounds, on_refusal=self._note_refusal)),
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            ws="none",
            # The client's address decides who may change the configuration, so no header may replace it.
            proxy_headers=False,
            lifespan="on",
            backlog=BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        )
        super().__init__(config)
        self.failed = False
        self.num_cut_off = 0
        self.context = context
        self._access_log = AccessLog(settings.access_log)
        context.engine.on_message, context.engine.on_lost = self.note, self.end_at_once

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the engine process, which decides for the whole replica."""
        yield

    def note(self, message: Drain | ShutDown) -> None:
        """Obey the engine process."""
        self.context.draining = True
        if isinstance(message, ShutDown):
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Check all connections once a second; returns whether to shut down."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(Connection, connection).sweep(now)
        ending = await super().on_tick(counter)
        # While draining, each answer tells its client to close the connection. Otherwise a client could send its next
        # request at the moment in which the idle connection is closed here.
        if self.context.draining and _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers.append(_CLOSE)
        return ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in progress, within the drain timeout."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_S)
        if self.num_cut_off:
            timeout_s = self.context.settings.drain_timeout_s
            _logger.error("%d request(s) cut off after the drain timeout of %g s", self.num_cut_off, timeout_s)

    def end_at_once(self) -> None:
        """Write the answers that are ready, and end: without an engine, only a new process can help."""
        self.failed = self.should_exit = True
        # A client that is still sending its body must not keep the process alive.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._force_exit)

    def _force_exit(self) -> None:
        self.force_exit = True

    def _note_refusal(self, status: int, client: Client) -> None:
        self.context.metrics.request_done(status, None)
        self._access_log.refused(client, status)

    def _note_cut_off(self) -> None:
        self.num_cut_off += 1
        self.failed = True
