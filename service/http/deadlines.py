"""When a request's answer is due: by its own parameters or a proxy's header, counted from the arrival of its head."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from service.errors import DeadlineExceededError

TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"

_MAX_TIMEOUT_DIGITS = 12

_T = TypeVar("_T")


def deadline_of(request: Request, timeout_ms: float | None = None) -> float | None:
    """The earlier one of a request's own deadline and its proxy's, as a reading of `time.monotonic`; None without any.

    Args:
        timeout_ms: what the request itself asks for.
    """
    given = [each for each in (timeout_ms, _proxy_timeout_ms(request)) if each is not None]
    if not given:
        return None
    arrived_at: float = request.scope["state"]["arrived_at"]
    return arrived_at + min(given) / 1000


async def arriving(body: Awaitable[_T], deadline: float | None) -> _T:
    """Wait for what comes of a request's body, until its deadline.

    Raises:
        DeadlineExceededError: the body was not there by then.
    """
    if deadline is None:
        return await body
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await body
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the whole request had arrived") from None


def _proxy_timeout_ms(request: Request) -> int | None:
    text = request.headers.get(TIMEOUT_HEADER)
    # Set by a proxy and not by the client: a value without meaning is no reason to refuse the request.
    if text is None or not text.isdecimal() or len(text) > _MAX_TIMEOUT_DIGITS or int(text) == 0:
        return None
    return int(text)
