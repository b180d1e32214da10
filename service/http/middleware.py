"""What happens to every request: an id, a count, and an answer even when a route fails unexpectedly."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
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

# What a client sent, quoted in an error, is never to be taken for a page or a script.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")

DirectRoute = Callable[[Request], Awaitable[Response]]
"""A route that reads its request itself."""

# Probes and scrapes come at a fixed rate and would drown the figures of real requests.
_UNCOUNTED_PATHS = frozenset({*LIVE_PATHS, *READY_PATHS, "/metrics"})


class RequestMiddleware:
    """Gives each request its id, counts it, and answers 500 for what no handler expected.

    What comes often it hands to its route itself: the framework's layers cost more than all else of a small request.

    Plain ASGI: Starlette's base class costs a task and a queue per request, and hides disconnects.

    Args:
        direct: routes that need none of the framework, by method and path. They take the request and answer it, or
            raise one of `service.errors`.
        on_cut_off: called for each request that the server cancels.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Counts,
        access_log: AccessLog,
        direct: Mapping[tuple[str, str], DirectRoute] | None = None,
        on_cut_off: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        self._direct = direct or {}
        self._on_cut_off = on_cut_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # Set by the connection; the request may have waited behind others on it.
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
            # The server does this to what is left when its time to drain is over. A balancer takes a 503 elsewhere.
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
            if scope["path"] not in _UNCOUNTED_PATHS:
                code = status or 500
                self._metrics.request_done(code, None if _is_refusal(code) else duration_s)
            self._access_log.answered(scope["client"], method, _target(scope), status or 500, duration_s, request_id)


async def _answer(route: DirectRoute, request: Request) -> Response:
    try:
        return await route(request)
    except ServiceError as error:
        return error_response(request, error)


def _is_refusal(status: int) -> bool:
    """Whether a status says that nothing was computed: such answers are quick, and would hide slow ones."""
    return 400 <= status < 500 or status == 503


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    return b"%s?%s" % (scope["raw_path"], query) if query else scope["raw_path"]


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id a request brings, or a new one where it brings none that is sane; names are in lower case."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"").decode("latin-1")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid4().hex
