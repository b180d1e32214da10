"""The HTTP status of each error of the service, and the problem documents (RFC 9457) that clients receive."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from math import ceil
from typing import Any
from uuid import uuid4

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service import errors
from service.http.schemas import Problem

_MEDIA_TYPE = "application/problem+json"
_SHOWN_CHARACTERS = 100
_SHOWN_ERRORS = 5
_OPEN_INFERENCE = "/v2/"
"""Below this path, errors have the form of the Open Inference Protocol."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """Status and title of all problems of one kind; `retry_after_s` is set if a retry may help."""

    status: int
    title: str
    retry_after_s: int | None = None

    @property
    def type(self) -> str:
        """A stable name for programs to compare."""
        return f"urn:dvt:problem:{self.title.lower().replace(' ', '-')}"


PROBLEM_KINDS: dict[type[errors.ServiceError], ProblemKind] = {
    errors.UndecodableImageError: ProblemKind(400, "Undecodable image"),
    errors.MalformedRequestError: ProblemKind(400, "Malformed request"),
    errors.UnauthorizedError: ProblemKind(401, "Unauthorized"),
    errors.ForbiddenError: ProblemKind(403, "Forbidden"),
    errors.NotFoundError: ProblemKind(404, "Not found"),
    errors.VersionConflictError: ProblemKind(412, "Version conflict"),
    errors.TooLargeError: ProblemKind(413, "Too large"),
    errors.UnsupportedMediaError: ProblemKind(415, "Unsupported media type"),
    errors.InvalidParameterError: ProblemKind(422, "Invalid parameter"),
    errors.OverloadedError: ProblemKind(429, "Overloaded", retry_after_s=1),
    errors.ClientLeftError: ProblemKind(499, "Client left"),  # only counted, since nobody is left to read it
    errors.InferenceError: ProblemKind(500, "Inference failed"),
    errors.NotReadyError: ProblemKind(503, "Not ready", retry_after_s=5),
    errors.StoreUnavailableError: ProblemKind(503, "Configuration store unavailable", retry_after_s=5),
    errors.DeviceLostError: ProblemKind(503, "Device lost", retry_after_s=5),
    errors.DeadlineExceededError: ProblemKind(504, "Deadline exceeded"),
    errors.ServiceError: ProblemKind(500, "Internal error"),
}


class Refusal(Enum):
    """An answer to bytes that never become a request: status, title, detail."""

    MALFORMED = (400, "Malformed request", "this is not HTTP that can be read")
    URL_TOO_LONG = (414, "URI too long", "the request's target is longer than 8192 bytes")
    HEAD_TOO_LARGE = (431, "Head too large", "the request has more than 128 header fields, or 65536 bytes of them")

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.title, self.detail = status, title, detail


def problem_of(error: errors.ServiceError, request: Request) -> Problem:
    """The document that describes `error`."""
    return _problem(_kind_of(error), str(error), request)


def error_response(request: Request, error: errors.ServiceError) -> Response:
    """The answer to `error`, whose traceback is deleted.

    The traceback's frames hold the request's images. In a reference cycle with the error, they would stay in memory
    until the next garbage collection.
    """
    error.__traceback__ = None
    kind = _kind_of(error)
    headers = {}
    retry_after_s = error.retry_after_s if isinstance(error, errors.OverloadedError) else kind.retry_after_s
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_after_s)))
    if isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooLargeError):
        headers["Connection"] = "close"  # the rest of the body is not read
    return _response(problem_of(error, request), headers)


def internal_error_response(request: Request) -> Response:
    """The answer to an unexpected exception; it says no more than where to look."""
    detail = f"an unexpected error; the log has it under request {request.scope['state']['request_id']}"
    return _response(_problem(PROBLEM_KINDS[errors.ServiceError], detail, request))


def refusal_answer(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The complete HTTP answer to a refusal; the connection is closed after it."""
    problem = _document(ProblemKind(refusal.status, refusal.title), refusal.detail, "", uuid4().hex)
    body = _encode(problem)
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        f"connection: close\r\ncontent-type: {_MEDIA_TYPE}\r\ncontent-length: {len(body)}".encode(),
        f"x-request-id: {problem['request_id']}\r\nx-content-type-options: nosniff\r\n\r\n".encode(),
    ]
    return b"\r\n".join(lines) + body


def install(app: FastAPI) -> None:
    """Answer every error of a route with a problem document."""
    app.add_exception_handler(errors.ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def describe(details: Sequence[Any]) -> str:
    """Pydantic's errors in one line: the first parameters, each with its value."""
    more = [f"and {len(details) - _SHOWN_ERRORS} more"] if len(details) > _SHOWN_ERRORS else []
    return "; ".join([*map(_describe_one, details[:_SHOWN_ERRORS]), *more])


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the problems that a route can answer with."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = [kind for kind in PROBLEM_KINDS.values() if kind.status == status]
        described[status] = {
            "description": " or ".join(kind.title for kind in kinds),
            "content": {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if any(kind.retry_after_s for kind in kinds):
            seconds = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer"}}
            described[status]["headers"] = {"Retry-After": seconds}
    return described


async def _on_service_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = errors.InvalidParameterError(describe(error.errors()))
    assert isinstance(error, errors.ServiceError)
    return error_response(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = ProblemKind(error.status_code, HTTPStatus(error.status_code).phrase)
    detail = f"{request.method} {request.scope['path'][:_SHOWN_CHARACTERS]}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # A path may have several routes, but the framework names the methods of one.
        described = request.app.openapi()["paths"].get(request.url.path)
        methods = set(map(str.upper, described or headers["Allow"].split(", ")))
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return _response(_problem(kind, detail, request), headers)


def _kind_of(error: errors.ServiceError) -> ProblemKind:
    """The kind of the error's class, or else of its nearest base class."""
    return next(PROBLEM_KINDS[base] for base in type(error).__mro__ if base in PROBLEM_KINDS)


def _problem(kind: ProblemKind, detail: str, request: Request) -> Problem:
    return _document(kind, detail, request.scope["path"], request.scope["state"]["request_id"])


def _document(kind: ProblemKind, detail: str, instance: str, request_id: str) -> Problem:
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=instance,
        request_id=request_id,
        error=detail,
    )


def _response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    if f"{problem['instance']}/".startswith(_OPEN_INFERENCE):
        return Response(_encode({"error": problem["error"]}), problem["status"], headers, "application/json")
    return Response(_encode(problem), problem["status"], headers, _MEDIA_TYPE)


def _describe_one(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"] if part not in ("query", "body")) or "body"
    if error["type"] == "extra_forbidden":
        return f"unknown parameter {name[:_SHOWN_CHARACTERS]!r}"
    if error["type"] == "json_invalid":
        return str(error["msg"])
    return f"{name}: {error['msg']}, got {repr(error['input'])[:_SHOWN_CHARACTERS]}"
