"""`POST /classify`: images in, their classes out."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from service.api import problems
from service.api.answers import image_result, json_response, server_timing
from service.api.authorization import require_api_key
from service.api.bodies import read_images
from service.api.context import Context
from service.api.disconnect import unless_client_leaves
from service.api.parameters import ClassifyParameters, policy_maker, read_parameters
from service.api.schemas import Answered, Classification, ClassificationList, ImageError, ImageResult
from service.api.walk import Outcomes, classify_images, require_room
from service.errors import ServiceError, TooLargeError

router = APIRouter()

_MAX_TIMEOUT_DIGITS = 12

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_REQUEST_BODY = {
    "description": "One image as it is, or one or more as multipart parts named `file`.",
    "required": True,
    "content": {
        "application/octet-stream": _BINARY,
        "image/*": _BINARY,
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": _FILES}, "required": ["file"]},
        },
    },
}


def _header(kind: str, description: str, *, required: bool) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": kind}}


_HEADERS = {
    "X-Request-ID": _header("string", "The request's own id, or a new one.", required=True),
    "Server-Timing": _header("string", "Milliseconds by phase.", required=True),
    "x-dvt-config-version": _header("integer", "The configuration that held.", required=True),
    "x-dvt-exit-stage": _header("integer", "Where the image left; for one image only.", required=False),
    "x-dvt-macs": _header("integer", "MACs executed for the image; for one image only.", required=False),
}


_TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"


def _documented(
    _: Annotated[ClassifyParameters, Query()],
    expected_timeout_ms: Annotated[str | None, Header(alias=_TIMEOUT_HEADER, description="A proxy's deadline.")] = None,
) -> None:
    """What the description says of parameters; the route reads them itself, which takes a tenth of the time."""


@router.post(
    "/classify",
    summary="Classify one image or several",
    response_model=Classification | ClassificationList,
    responses={
        HTTPStatus.OK: {"headers": _HEADERS},
        **problems.responses(400, 401, 403, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra={"requestBody": _REQUEST_BODY},
    dependencies=[Depends(_documented)],
)
async def classify(request: Request) -> Response:
    """One image in, one object out; several in, a list out, where a bad one spoils no other's answer."""
    context: Context = request.app.state.context
    require_api_key(request, context)
    require_room(context)
    parameters = read_parameters(request.scope["query_string"])
    make_policy = policy_maker(parameters, context, _proxy_timeout_s(request.headers.get(_TIMEOUT_HEADER)))
    images = await _read_images(request, context)
    outcomes = await unless_client_leaves(request, classify_images(context, images, make_policy))
    if len(images) == 1:
        return _single(outcomes, request, context)
    return _several(outcomes, request, context)


async def _read_images(request: Request, context: Context) -> list[bytes]:
    settings = context.settings
    try:
        return await read_images(request, max_bytes=settings.max_body_bytes, max_images=settings.max_images_per_request)
    except TooLargeError:
        # How many images it holds was not read; it counts as one, so that the refusal is seen.
        context.metrics.images_presented(1)
        context.metrics.image_rejected("too_large")
        raise


def _proxy_timeout_s(text: str | None) -> float | None:
    # Set by proxies, not by who asks: what makes no sense is no reason to refuse the request.
    if text is None or not text.isdecimal() or len(text) > _MAX_TIMEOUT_DIGITS or int(text) == 0:
        return None
    return int(text) / 1000


def _single(outcomes: Outcomes, request: Request, context: Context) -> Response:
    (outcome,) = outcomes.images
    if isinstance(outcome, ServiceError):
        raise outcome
    answer = Classification(**_about(outcomes, request, context), **image_result(outcome, context))
    headers = {
        "Server-Timing": server_timing(answer["timing_ms"]),
        "x-dvt-exit-stage": str(answer["exit"]["stage"]),
        "x-dvt-macs": str(answer["compute"]["macs"]),
        "x-dvt-config-version": str(answer["config_version"]),
    }
    return json_response(answer, headers)


def _several(outcomes: Outcomes, request: Request, context: Context) -> Response:
    results: list[ImageResult | ImageError] = [
        ImageError(error=problems.problem_of(outcome, request))
        if isinstance(outcome, ServiceError)
        else image_result(outcome, context)
        for outcome in outcomes.images
    ]
    answer = ClassificationList(**_about(outcomes, request, context), results=results)
    headers = {
        "Server-Timing": f"total;dur={round(outcomes.total_s * 1000, 3)}",
        "x-dvt-config-version": str(answer["config_version"]),
    }
    return json_response(answer, headers)


def _about(outcomes: Outcomes, request: Request, context: Context) -> Answered:
    return Answered(
        id=request.scope["state"]["request_id"],
        model=context.manifest.name,
        config_version=outcomes.config_version,
    )
