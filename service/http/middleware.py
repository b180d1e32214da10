"""The middleware of every request: its id, its metrics, and an answer even if its route fails unexpectedly."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotReadyError, ServiceError
from service.http.access_log import AccessLog
from service.http.health import LIVE_PATHS, READY_PATHS
from service.http.problems import error_response, internal_error_response
from service.link.counts import Counts

logger = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# An error may quote what a client sent; a browser must not take it for a page or a script.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")

DirectRoute = Callable[[Request], Awaitable[Response]]
"""A route that reads its request itself, and answers it or raises one of `service.errors`."""

# Probes and scrapes come at a fixed rate, and would hide the figures of real requests.
_UNCOUNTED_PATHS = frozenset({*LIVE_PATHS, *READY_PATHS, "/metrics"})


class RequestMiddleware:
    """Gives each request an id, counts it, and answers 500 to unexpected exceptions.

    It is plain ASGI: Starlette's base class costs a task and a queue per request, and hides disconnects.

    Args:
        direct: frequent routes by method and path, called without the framework, whose layers would cost more than
            the rest of a small request.
        on_cut_off: called for each request that the server cancels.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Counts,
        access_log: AccessLog,
        direct: Mapping[tuple[str, str], DirectRoute],
        on_cut_off: Callable[[], None],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        self._direct = direct
        self._on_cut_off = on_cut_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id_of(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # The connection sets it: the request may have waited there behind others.
        arrived_at = state.setdefault("arrived_at", time.monotonic())
        method: str = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server itself leaves the body out
        own_headers = ((b"x-request-id", request_id.encode()), _NO_SNIFFING)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own_headers]
            await send(message)

        try:
            direct = self._direct.get((scope["method"], scope["path"]))
            app = self._app if direct is None else await _answer(direct, Request(scope, receive))
            await app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The server cancels the requests left at the drain timeout. A load balancer retries a 503 elsewhere.
            self._on_cut_off()
            if status is not None:
                raise
            error = NotReadyError("the service ended before this request was done")
            await error_response(Request(scope), error)(scope, receive, send_with_id)
        except Exception:
            logger.exception("request %s failed", request_id)
            if status is not None:
                raise
            await internal_error_response(Request(scope))(scope, receive, send_with_id)
        finally:
            duration_s = time.monotonic() - arrived_at
            code = status or 500
            if scope["path"] not in _UNCOUNTED_PATHS:
                self._metrics.request_done(code, None if _is_refusal(code) else duration_s)
            self._access_log.answered(scope["client"], method, _target(scope), code, duration_s, request_id)


async def _answer(route: DirectRoute, request: Request) -> Response:
    try:
        return await route(request)
    except ServiceError as error:
        return error_response(request, error)


def _is_refusal(status: int) -> bool:
    """Whether nothing was computed: such answers are fast, and would hide slow ones in the durations."""
    return 400 <= status < 500 or status == 503


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    return b"%s?%s" % (scope["raw_path"], query) if query else scope["raw_path"]


def _request_id_of(scope: Scope) -> str:
    """The id in the request's header if it is sane, or a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid4().hex
