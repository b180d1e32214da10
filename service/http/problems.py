"""The one table from our errors to HTTP statuses, and the problem documents (RFC 9457) made from it."""

from collections.abc import Iterable, Sequence
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

from service.errors import (
    ClientLeftError,
    DeadlineExceededError,
    DeviceLostError,
    ForbiddenError,
    InferenceError,
    InvalidParameterError,
    MalformedRequestError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    StoreUnavailableError,
    TooLargeError,
    UnauthorizedError,
    UndecodableImageError,
    UnsupportedMediaError,
    VersionConflictError,
)
from service.http.schemas import Problem

MEDIA_TYPE = "application/problem+json"
CLIENT_LEFT = 499
"""Counted when a client leaves before its answer; never sent, since nobody is there to read it."""

_SHOWN_CHARACTERS = 100
_SHOWN_ERRORS = 5
_OTHER_PROTOCOLS = "/v2/"
"""Below it, errors are said as the Open Inference Protocol says them."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What all problems of one kind share; `retry_after_s` makes it one that passes."""

    status: int
    title: str
    retry_after_s: int | None = None

    @property
    def type(self) -> str:
        """A stable name for programs to compare."""
        return f"urn:dvt:problem:{self.title.lower().replace(' ', '-')}"


_INTERNAL = ProblemKind(500, "Internal error")
PROBLEM_KINDS: dict[type[ServiceError], ProblemKind] = {
    UndecodableImageError: ProblemKind(400, "Undecodable image"),
    MalformedRequestError: ProblemKind(400, "Malformed request"),
    UnauthorizedError: ProblemKind(401, "Unauthorized"),
    ForbiddenError: ProblemKind(403, "Forbidden"),
    NotFoundError: ProblemKind(404, "Not found"),
    VersionConflictError: ProblemKind(412, "Version conflict"),
    TooLargeError: ProblemKind(413, "Too large"),
    UnsupportedMediaError: ProblemKind(415, "Unsupported media type"),
    InvalidParameterError: ProblemKind(422, "Invalid parameter"),
    OverloadedError: ProblemKind(429, "Overloaded", retry_after_s=1),
    ClientLeftError: ProblemKind(CLIENT_LEFT, "Client left"),
    InferenceError: ProblemKind(500, "Inference failed"),
    NotReadyError: ProblemKind(503, "Not ready", retry_after_s=5),
    StoreUnavailableError: ProblemKind(503, "Configuration store unavailable", retry_after_s=5),
    DeviceLostError: ProblemKind(503, "Device lost", retry_after_s=5),
    DeadlineExceededError: ProblemKind(504, "Deadline exceeded"),
    ServiceError: _INTERNAL,
}


class Refusal(Enum):
    """What is answered before any route is reached: status, title, detail."""

    MALFORMED = (400, "Malformed request", "this is not HTTP that can be read")
    URL_TOO_LONG = (414, "URI too long", "the request's target is longer than 8192 bytes")
    HEAD_TOO_LARGE = (431, "Head too large", "the request has more than 128 header fields, or 65536 bytes of them")

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.title, self.detail = status, title, detail


def kind_of(error: ServiceError) -> ProblemKind:
    """The kind of an error: its own class's, or else its nearest base's."""
    return next(PROBLEM_KINDS[base] for base in type(error).__mro__ if base in PROBLEM_KINDS)


def problem_of(error: ServiceError, request: Request) -> Problem:
    """The document that describes `error`."""
    return _problem(kind_of(error), str(error), request)


def internal_error_response(request: Request) -> Response:
    """The answer to an unexpected exception: says nothing but where to look."""
    detail = f"an unexpected error; the log has it under request {request.scope['state']['request_id']}"
    return _response(_problem(_INTERNAL, detail, request))


def refusal_answer(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole HTTP answer to what cannot be read as a request; the connection is closed after it."""
    problem = _document(ProblemKind(refusal.status, refusal.title), refusal.detail, "", uuid4().hex)
    body = _encode(problem)
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        f"connection: close\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}".encode(),
        f"x-request-id: {problem['request_id']}\r\nx-content-type-options: nosniff\r\n\r\n".encode(),
    ]
    return b"\r\n".join(lines) + body


def install(app: FastAPI) -> None:
    """Answer every error of a route with a problem document."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def describe(errors: Sequence[Any]) -> str:
    """Pydantic's errors in one line, naming the first parameters and the value each had."""
    more = [f"and {len(errors) - _SHOWN_ERRORS} more"] if len(errors) > _SHOWN_ERRORS else []
    return "; ".join([*map(_describe_one, errors[:_SHOWN_ERRORS]), *more])


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems a route can answer with."""
    return {status: _openapi_response(status) for status in statuses}


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return error_response(request, error)


def error_response(request: Request, error: ServiceError) -> Response:
    """The answer an error stands for; the error forgets where it was raised.

    Those frames hold the request's images, often in a circle with the error, and so until the next collection.
    """
    error.__traceback__ = None
    return _response(_problem(kind_of(error), str(error), request), error_headers(error))


def error_headers(error: ServiceError) -> dict[str, str]:
    """The headers that belong to an error's status."""
    kind = kind_of(error)
    headers = {}
    retry_after_s = error.retry_after_s if isinstance(error, OverloadedError) else kind.retry_after_s
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_after_s)))
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooLargeError):
        headers["Connection"] = "close"  # the rest is not going to be read
    return headers


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_service_error(request, InvalidParameterError(describe(error.errors())))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = ProblemKind(error.status_code, HTTPStatus(error.status_code).phrase)
    detail = f"{request.method} {request.scope['path'][:_SHOWN_CHARACTERS]}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of one route only, where a path may have several.
        described = request.app.openapi()["paths"].get(request.url.path)
        methods = set(map(str.upper, described or headers["Allow"].split(", ")))
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return _response(_problem(kind, detail, request), headers)


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


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    if f"{problem['instance']}/".startswith(_OTHER_PROTOCOLS):
        return Response(_encode({"error": problem["error"]}), problem["status"], headers, "application/json")
    return Response(_encode(problem), problem["status"], headers, MEDIA_TYPE)


def _describe_one(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"] if part not in ("query", "body")) or "body"
    if error["type"] == "extra_forbidden":
        return f"unknown parameter {name[:_SHOWN_CHARACTERS]!r}"
    if error["type"] == "json_invalid":
        return str(error["msg"])
    return f"{name}: {error['msg']}, got {repr(error['input'])[:_SHOWN_CHARACTERS]}"


def _openapi_response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in PROBLEM_KINDS.values() if kind.status == status]
    assert kinds, f"no error maps to {status}"
    response: dict[str, Any] = {
        "description": " or ".join(kind.title for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if any(kind.retry_after_s for kind in kinds):
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait.",
                "required": True,
                "schema": {"type": "integer"},
            }
        }
    return response
