"""Cancels the work for a client that disconnects."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from starlette.types import Receive

from service.errors import ClientLeftError

T = TypeVar("T")


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it if the client disconnects first. The body must have been read before.

    The work runs in the current task, because a task of its own costs more than encoding most answers.

    Raises:
        ClientLeftError: the client disconnected.
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
        # The server may cancel the request at the same time. That cancellation must go on.
        if left and task.uncancel() == 0:
            raise ClientLeftError("the client left before its answer was ready") from None
        raise
    finally:
        watching.cancel()


async def _watch(receive: Receive, leave: Callable[[], None]) -> None:
    # A connection that can no longer be read counts as a disconnect.
    with suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    leave()
