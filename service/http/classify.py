"""`POST /classify`: classifies one image or several."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from service.errors import ServiceError
from service.http import problems
from service.http.answers import image_result, json_response
from service.http.authorization import require_api_key
from service.http.context import Context
from service.http.deadlines import TIMEOUT_HEADER, arriving, deadline_of
from service.http.description import BINARY, images_body
from service.http.disconnect import unless_client_leaves
from service.http.inputs import read_inputs
from service.http.parameters import (
    ClassifyParameters,
    JsonParameters,
    check_parameters,
    combined,
    policy_maker,
    read_parameters,
)
from service.http.schemas import Answered, Classification, ClassificationList, ImageError, ImageResult
from service.http.walk import Outcomes, classify_images, require_room

router = APIRouter()

_FILES = {"type": "array", "items": BINARY["schema"], "minItems": 1}
_MULTIPART = {"type": "object", "properties": {"file": _FILES}, "required": ["file"], "additionalProperties": False}


def _header(kind: str, description: str, *, required: bool) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": kind}}


_HEADERS = {
    "X-Request-ID": _header("string", "The request's own id, or a new one.", required=True),
    "Server-Timing": _header("string", "Milliseconds by phase.", required=True),
    "x-dvt-config-version": _header("integer", "The version of the configuration.", required=True),
    "x-dvt-exit-stage": _header("integer", "The stage that the image left at; for one image only.", required=False),
    "x-dvt-macs": _header("integer", "MACs executed for the image; for one image only.", required=False),
}


def _documented(
    _: Annotated[ClassifyParameters, Query()],
    expected_timeout_ms: Annotated[str | None, Header(alias=TIMEOUT_HEADER, description="A proxy's deadline.")] = None,
) -> None:
    """Declares the parameters for the description; the route reads them itself, ten times faster."""


@router.post(
    "/classify",
    summary="Classify one image or several",
    response_model=Classification | ClassificationList,
    responses={
        HTTPStatus.OK: {"headers": _HEADERS},
        **problems.responses(400, 401, 403, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra=images_body(
        "One image as it is, one or more as multipart parts named `file`, or in base64 inside JSON, where a list gets "
        "a list of answers.",
        JsonParameters,
        **{"multipart/form-data": {"schema": _MULTIPART}},
    ),
    dependencies=[Depends(_documented)],
)
async def classify(request: Request) -> Response:
    """One image gets one object, several get a list, in which a bad image does not affect the others."""
    context: Context = request.app.state.context
    require_api_key(request, context)
    require_room(context)
    parameters = read_parameters(request.scope["query_string"])
    deadline = deadline_of(request, parameters.deadline_ms)
    # Before the body is read, so that a mistake is reported at once.
    make_policy = policy_maker(parameters, context, deadline)
    inputs = await arriving(read_inputs(request, context), deadline)
    if inputs.parameters is not None:
        asked = combined(parameters, check_parameters(JsonParameters, inputs.parameters))
        make_policy = policy_maker(asked, context, deadline_of(request, asked.deadline_ms))
    outcomes = await unless_client_leaves(request, classify_images(context, inputs.images, make_policy))
    answered = Answered(
        id=request.scope["state"]["request_id"],
        model=context.manifest.name,
        config_version=outcomes.config_version,
    )
    return (_several if inputs.as_list else _single)(answered, outcomes, request, context)


def _single(answered: Answered, outcomes: Outcomes, request: Request, context: Context) -> Response:
    (outcome,) = outcomes.images
    if isinstance(outcome, ServiceError):
        raise outcome
    answer = Classification(**answered, **image_result(outcome, context))
    headers = {
        "Server-Timing": ", ".join(f"{name};dur={value}" for name, value in answer["timing_ms"].items()),
        "x-dvt-exit-stage": str(answer["exit"]["stage"]),
        "x-dvt-macs": str(answer["compute"]["macs"]),
        "x-dvt-config-version": str(answer["config_version"]),
    }
    return json_response(answer, headers)


def _several(answered: Answered, outcomes: Outcomes, request: Request, context: Context) -> Response:
    results: list[ImageResult | ImageError] = [
        ImageError(error=problems.problem_of(outcome, request))
        if isinstance(outcome, ServiceError)
        else image_result(outcome, context)
        for outcome in outcomes.images
    ]
    answer = ClassificationList(**answered, results=results)
    headers = {
        "Server-Timing": f"total;dur={round(outcomes.total_s * 1000, 3)}",
        "x-dvt-config-version": str(answer["config_version"]),
    }
    return json_response(answer, headers)
