"""Stop working for a client that has left."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from starlette.types import Receive

from service.errors import ClientLeftError

T = TypeVar("T")


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client disconnects first; the body must have been read before.

    The work runs in this very task, since another one would cost more than most answers' JSON.

    Raises:
        ClientLeftError: the client left.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        task.cancel()

    watching = asyncio.create_task(_watch(request.receive, leave))
    try:
        return await work
    except asyncio.CancelledError:
        # The server may give the request up at the same time; that is not ours to take back.
        if left and task.uncancel() == 0:
            raise ClientLeftError("the client left before its answer was ready") from None
        raise
    finally:
        watching.cancel()


async def _watch(receive: Receive, leave: Callable[[], None]) -> None:
    # A connection that cannot be read any more has been left too.
    with suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    leave()
