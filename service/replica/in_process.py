"""An engine with a front end's context on one event loop, connected as two processes would be."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.http.context import Context
from service.link.channel import Channel
from service.link.gateway import Gateway
from service.link.messages import FromFrontEnd
from service.replica.backend import Backend, welcome
from service.settings import Settings

_WATCH_INTERVAL_S = 0.01
_STOP_TIMEOUT_S = 10.0


@asynccontextmanager
async def linked(backend: Backend, settings: Settings) -> AsyncIterator[Context]:
    """Start the engine and connect a context to it. The caller starts and closes `Context.engine`.

    Does not wait for the warm-up: see `Context.ready`.
    """
    engine, gateway = backend.engine, Gateway(backend.engine, backend.operating_points, backend.metrics)
    engine.start()
    await backend.operating_points.start()
    ours, theirs = socket.socketpair()
    channel = await Channel[FromFrontEnd].open(ours, FromFrontEnd)
    first = welcome(backend, settings)
    serving = asyncio.create_task(gateway.serve(channel, lambda: first))
    watching = asyncio.create_task(_watch(gateway))
    try:
        yield Context.of(first, theirs, [0], 0)
    finally:
        watching.cancel()
        theirs.close()  # if `Context.engine` was never started
        await asyncio.to_thread(engine.stop, drain=False, timeout_s=_STOP_TIMEOUT_S)
        await asyncio.wait({watching, serving})
        await backend.operating_points.close()


async def _watch(gateway: Gateway) -> None:
    while True:
        gateway.tell_of_state()
        await asyncio.sleep(_WATCH_INTERVAL_S)
