"""The HTTP server around an application: uvicorn with this service's settings and way of ending."""

import asyncio
import math
import time
from types import FrameType
from typing import cast

import uvicorn

from service.api.app import create_app
from service.api.context import Context
from service.connection import Bounds, Connection, connections

# Longer than a proxy keeps its idle connections, so that it never sends into one that is being closed here.
_KEEP_ALIVE_S = 75
_BACKLOG = 2048
# A client that sends a body of up to so many times the limit can send it all, and then reads that it was too large.
_UNREAD_SHARE = 2
# Uvicorn ticks ten times a second.
_SWEEP_TICKS = 10
# What is left of requests once the engine is dead: their errors are written in far less.
_LAST_WORDS_S = 0.3


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
            http=connections(
                Bounds(
                    timeout_s=settings.client_timeout_s,
                    max_connections=settings.max_connections,
                    max_unread_bytes=_UNREAD_SHARE * settings.max_body_bytes,
                ),
                on_refused=lambda status: context.metrics.request_done(status, 0.0),
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
        self.context = context

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second; whether to shut down."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(Connection, connection).sweep(now)
        return await super().on_tick(counter)

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
