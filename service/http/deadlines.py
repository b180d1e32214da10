"""Deadlines of requests, from a parameter or a proxy's header, counted from the arrival of the request's head."""

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
    """The earlier of the request's deadline and its proxy's, on the clock `time.monotonic`; None if there is neither.

    Args:
        timeout_ms: the timeout in the request's parameters.
    """
    given = [each for each in (timeout_ms, _proxy_timeout_ms(request)) if each is not None]
    if not given:
        return None
    arrived_at: float = request.scope["state"]["arrived_at"]
    return arrived_at + min(given) / 1000


async def arriving(body: Awaitable[_T], deadline: float | None) -> _T:
    """Wait for a request's body until its deadline.

    Raises:
        DeadlineExceededError: the body had not arrived by then.
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
    # The client does not control this header, so an invalid value must not fail its request.
    if text is None or not text.isdecimal() or len(text) > _MAX_TIMEOUT_DIGITS:
        return None
    return int(text) or None
