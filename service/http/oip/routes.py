"""`/v2`: health, metadata and inference."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from service.errors import NotFoundError, NotReadyError
from service.http.answers import scores
from service.http.authorization import require_api_key
from service.http.bodies import read_body
from service.http.context import Context, ContextDep
from service.http.deadlines import arriving, deadline_of
from service.http.disconnect import unless_client_leaves
from service.http.inputs import parsed, too_large_counted
from service.http.oip import schemas
from service.http.oip.messages import BYTES, INPUT, OUTPUTS, parse, render
from service.http.parameters import (
    Count,
    JsonParameters,
    PolicyParameters,
    check_parameters,
    policy_maker,
    refuse_query,
)
from service.http.walk import Walked, classify_images, require_answers, require_room
from service.version import SERVICE_NAME, service_version

router = APIRouter(prefix="/v2")

_MODEL_VERSION = "1"
_MICROSECONDS_PER_MS = 1000


class InferParameters(PolicyParameters):
    """The `parameters` of a request; unknown ones are refused."""

    thresholds: float | str | None = Field(
        default=None, description="As in /classify: a number, or a text with one per exit but the last."
    )
    timeout: Count | None = Field(default=None, description="A deadline in microseconds, the unit of Triton's clients.")


@router.get("", summary="Open Inference Protocol: the server", responses=schemas.errors(500))
async def server_metadata() -> schemas.ServerMetadata:
    """Name, version and protocol extensions."""
    return schemas.ServerMetadata(name=SERVICE_NAME, version=service_version(), extensions=["binary_tensor_data"])


@router.get(
    "/health/live",
    summary="Open Inference Protocol: is it alive?",
    responses=schemas.errors(500, 503),
)
async def live(context: ContextDep) -> schemas.ServerLive:
    """As `/livez`."""
    if not context.alive:
        raise NotReadyError("the engine is dead, or stuck")
    return schemas.ServerLive(live=True)


@router.get(
    "/health/ready",
    summary="Open Inference Protocol: are requests taken?",
    responses=schemas.errors(500, 503),
)
async def ready(context: ContextDep) -> schemas.ServerReady:
    """As `/readyz`."""
    if not context.ready:
        raise NotReadyError(f"the service is {context.state}")
    return schemas.ServerReady(ready=True)


async def model_metadata(request: Request, context: ContextDep) -> schemas.ModelMetadata:
    """The model's input and outputs."""
    tensors = [
        schemas.TensorMetadata(name=name, datatype=datatype, shape=[-1])
        for name, datatype in ((INPUT, BYTES), *OUTPUTS.items())
    ]
    return schemas.ModelMetadata(
        name=_required_model(request, context),
        versions=[_MODEL_VERSION],
        platform="pytorch_dvt",
        inputs=tensors[:1],
        outputs=tensors[1:],
    )


async def model_ready(request: Request, context: ContextDep) -> schemas.ModelReady:
    """Whether the model accepts requests."""
    name = _required_model(request, context)
    return schemas.ModelReady(name=name, **await ready(context))


async def infer(request: Request, context: ContextDep) -> Response:
    """Encoded images in one BYTES tensor, binary or in base64; each output has one element for each image.

    An image that fails makes the request fail, since the protocol has no errors of single images.
    """
    require_api_key(request, context)
    name = _required_model(request, context)
    require_room(context)
    refuse_query(request.scope["query_string"], "send 'parameters' in the JSON")
    settings = context.settings
    with too_large_counted(context):
        body = await arriving(read_body(request, max_bytes=settings.max_body_bytes), deadline_of(request))
        header = request.headers.get(schemas.JSON_LENGTH)
        inference = await parsed(lambda: parse(body, header, settings.max_images_per_request), len(body), context)
    asked = check_parameters(InferParameters, inference.parameters)
    timeout_ms = None if asked.timeout is None else asked.timeout / _MICROSECONDS_PER_MS
    given = asked.model_dump(exclude={"timeout"}, exclude_unset=True)
    parameters = JsonParameters.model_construct(**given, top_k=1)
    make_policy = policy_maker(parameters, context, deadline_of(request, timeout_ms))
    outcomes = await unless_client_leaves(request, classify_images(context, inference.images, make_policy))
    walked = require_answers(outcomes.images, INPUT if len(outcomes.images) > 1 else "")
    content, json_length = render(inference, name, _MODEL_VERSION, _values(walked, context))
    headers = {"x-dvt-config-version": str(outcomes.config_version)}
    if json_length is None:
        return Response(content, headers=headers, media_type="application/json")
    headers[schemas.JSON_LENGTH] = str(json_length)
    return Response(content, headers=headers, media_type="application/octet-stream")


def _values(walked: list[Walked], context: Context) -> dict[str, list[Any]]:
    best = [scores(each.answer.prediction, context)[0] for each in walked]
    return {
        "label": [each["label"] for each in best],
        "score": [each["confidence"] for each in best],
        "exit_stage": [each.answer.prediction.stage for each in walked],
        "macs": [each.answer.macs for each in walked],
    }


def _required_model(request: Request, context: Context) -> str:
    """The model's name, if the path has it."""
    name, version = request.path_params["name"], request.path_params.get("version", _MODEL_VERSION)
    there_is = context.manifest.name
    if name != there_is:
        raise NotFoundError(f"there is no model {name[:100]!r}; there is {there_is}")
    if version != _MODEL_VERSION:
        raise NotFoundError(f"there is no version {version[:100]!r} of {name}; there is {_MODEL_VERSION}")
    return there_is


for _names in (("name",), ("name", "version")):
    _path = "/models/{name}" + "/versions/{version}" * (len(_names) - 1)
    _parameters = schemas.path_parameters(*_names)
    router.add_api_route(
        _path,
        model_metadata,
        summary="Open Inference Protocol: the model",
        responses=schemas.errors(404, 500),
        openapi_extra=_parameters,
    )
    router.add_api_route(
        f"{_path}/ready",
        model_ready,
        summary="Open Inference Protocol: is the model ready?",
        responses=schemas.errors(404, 500, 503),
        openapi_extra=_parameters,
    )
    router.add_api_route(
        f"{_path}/infer",
        infer,
        methods=["POST"],
        summary="Open Inference Protocol: classify images",
        response_model=schemas.InferResponse,
        responses=schemas.infer_responses(400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504),
        openapi_extra={**_parameters, **schemas.infer_body(InferParameters)},
    )
