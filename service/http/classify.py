"""`POST /classify`: images in, their classes out."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from service.errors import ServiceError
from service.http import problems
from service.http.answers import image_result, json_response, server_timing
from service.http.authorization import require_api_key
from service.http.context import Context
from service.http.deadlines import TIMEOUT_HEADER, arriving, deadline_of
from service.http.disconnect import unless_client_leaves
from service.http.inputs import check_parameters, json_body, read_inputs
from service.http.parameters import ClassifyParameters, JsonParameters, combined, policy_maker, read_parameters
from service.http.schemas import Answered, Classification, ClassificationList, ImageError, ImageResult
from service.http.walk import Outcomes, classify_images, require_room

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_REQUEST_BODY = {
    "description": "One image as it is, one or more as multipart parts named `file`, or in base64 inside JSON: a "
    "list there is answered with a list.",
    "required": True,
    "content": {
        "application/octet-stream": _BINARY,
        "image/*": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _FILES},
                "required": ["file"],
                "additionalProperties": False,
            },
        },
        "application/json": {"schema": json_body(JsonParameters)},
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


def _documented(
    _: Annotated[ClassifyParameters, Query()],
    expected_timeout_ms: Annotated[str | None, Header(alias=TIMEOUT_HEADER, description="A proxy's deadline.")] = None,
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
    deadline = deadline_of(request, parameters.deadline_ms)
    # Checked before the body is read, so that a mistake is found at once.
    make_policy = policy_maker(parameters, context, deadline)
    inputs = await arriving(read_inputs(request, context), deadline)
    if inputs.parameters is not None:
        asked = combined(parameters, check_parameters(JsonParameters, inputs.parameters))
        make_policy = policy_maker(asked, context, deadline_of(request, asked.deadline_ms))
    outcomes = await unless_client_leaves(request, classify_images(context, inputs.images, make_policy))
    if inputs.as_list:
        return _several(outcomes, request, context)
    return _single(outcomes, request, context)


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
