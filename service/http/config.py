"""`/config`: the live thresholds, read by anyone and changed by the operator, without a restart."""

import asyncio
from codecs import BOM_UTF8
from itertools import accumulate
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ValidationError

from service.engine.operating import Change, OperatingPoint, Target, TargetKind
from service.errors import InvalidParameterError, UnsupportedMediaError, VersionConflictError
from service.http import problems
from service.http.authorization import require_admin
from service.http.bodies import read_body
from service.http.changes import BODY_TYPES, ConfigurationPatch, ConfigurationReplacement, Simulated
from service.http.context import Context, ContextDep
from service.http.inputs import described
from service.http.parameters import refuse_query
from service.http.schemas import (
    Configuration,
    ConfigurationHistory,
    ConfigurationVersion,
    Curve,
    CurvePoint,
    ExitPoint,
    Expected,
    Limits,
    Simulation,
)
from weights.calibration.thresholds import Outcome

router = APIRouter()

_MAX_BODY_BYTES = 65_536
_ETAG = {"ETag": {"description": "The version, quoted.", "required": True, "schema": {"type": "string"}}}
_REFUSALS = (401, 403, 412, 413, 415, 422, 500, 503)

IfMatch = Annotated[str | None, Header(description="Change only the version with this ETag.")]
BodyT = TypeVar("BodyT", bound=BaseModel)


def _body_of(model: type[BaseModel]) -> dict[str, object]:
    schema = described(model)
    content = {media_type: {"schema": schema} for media_type in BODY_TYPES}
    return {"requestBody": {"required": True, "content": content}}


@router.get(
    "/config",
    summary="The live configuration",
    response_model=Configuration,
    responses={200: {"headers": _ETAG}, **problems.responses(500)},
)
async def get_config(context: ContextDep) -> Response:
    """What requests admitted now are given."""
    return _document(context.operating_points.current, context)


@router.patch(
    "/config",
    summary="Change the live configuration",
    response_model=Configuration,
    responses={200: {"headers": _ETAG}, **problems.responses(*_REFUSALS)},
    openapi_extra=_body_of(ConfigurationPatch),
)
async def patch_config(request: Request, context: ContextDep, if_match: IfMatch = None) -> Response:
    """Change what requests admitted from now on are given; taken whole or refused whole."""
    return await _changed(request, context, if_match, ConfigurationPatch)


@router.put(
    "/config",
    summary="Replace the live configuration",
    response_model=Configuration,
    responses={200: {"headers": _ETAG}, **problems.responses(*_REFUSALS)},
    openapi_extra=_body_of(ConfigurationReplacement),
)
async def put_config(request: Request, context: ContextDep, if_match: IfMatch = None) -> Response:
    """Say everything that can be said about requests admitted from now on: thresholds, or a target."""
    return await _changed(request, context, if_match, ConfigurationReplacement)


@router.post(
    "/config/simulate",
    summary="What a configuration would do",
    response_model=Simulation,
    responses=problems.responses(413, 415, 422, 500),
    openapi_extra=_body_of(Simulated),
)
async def simulate(request: Request, context: ContextDep) -> Response:
    """Accuracy, mean MACs and exit shares on the held-out images of the calibration table; changes nothing."""
    body = await _read(request, Simulated)
    thresholds, target = await _wanted(body, context)
    expected = _expected(thresholds, context)
    if expected is None:
        raise InvalidParameterError("the model has no calibration table to simulate with; see dvt calibrate")
    simulation = Simulation(
        thresholds=list(thresholds),
        target=_shown(target),
        operating_point=_named(thresholds, context),
        expected=expected,
    )
    return Response(simulation.to_json(), media_type="application/json")


@router.get("/config/curve", summary="What accuracy each cost can buy", responses=problems.responses(500))
async def curve(context: ContextDep) -> Curve:
    """The thresholds worth having: on the held-out images, no others are as accurate for as few MACs."""
    loop = asyncio.get_running_loop()
    points = await loop.run_in_executor(context.decode_pool, lambda: context.forecast.curve)
    exits = zip(context.forecast.exit_accuracies, accumulate(context.engine.stage_macs), strict=False)
    return Curve(
        baseline_macs=context.engine.baseline_macs,
        points=[CurvePoint(thresholds=list(point.thresholds), **_fields(point.outcome)) for point in points],
        exits=[
            ExitPoint(stage=stage, accuracy=accuracy, mean_macs=macs) for stage, (accuracy, macs) in enumerate(exits)
        ],
    )


@router.get("/config/history", summary="The last versions of the configuration", responses=problems.responses(500))
async def history(context: ContextDep) -> ConfigurationHistory:
    """Which thresholds held from when, and whose key set them; the newest first."""
    return ConfigurationHistory(
        versions=[
            ConfigurationVersion(
                version=point.version,
                thresholds=list(point.thresholds),
                target=_shown(point.target),
                changed_by=point.changed_by,
                updated_at=point.updated_at,
            )
            for point in reversed(context.operating_points.history)
        ]
    )


async def _changed(
    request: Request, context: Context, if_match: str | None, model: type[ConfigurationPatch]
) -> Response:
    changed_by = require_admin(request, context)
    body = await _read(request, model)
    versions = _matched_versions(if_match)
    current = context.operating_points.current
    if body.says_nothing:
        if versions is not None and current.version not in versions:
            raise VersionConflictError(
                f"the configuration is at version {current.version}, If-Match is {(if_match or '')[:100]}"
            )
        return _document(current, context)
    thresholds, target = await _wanted(body, context)
    change = Change(thresholds=thresholds, target=target, changed_by=changed_by)
    return _document(await context.operating_points.change(change, if_version=versions), context)


async def _read(request: Request, model: type[BodyT]) -> BodyT:
    refuse_query(request.scope["query_string"], "say it in the body, or try it with /config/simulate")
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in BODY_TYPES:
        raise UnsupportedMediaError(
            f"content type {content_type[:100]!r} is not accepted; send {' or '.join(BODY_TYPES)}"
        )
    body = await read_body(request, max_bytes=_MAX_BODY_BYTES)
    try:
        return model.model_validate_json(body.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise InvalidParameterError(problems.describe(error.errors())) from error


async def _wanted(body: ConfigurationPatch, context: Context) -> tuple[tuple[float, ...], Target | None]:
    """The thresholds a body stands for, and the target they were solved for."""
    current = context.operating_points.current
    if body.says_nothing:
        return current.thresholds, current.target
    target = body.wanted_target()
    if target is None:
        return body.wanted_thresholds(context.manifest), None
    # Building the solver takes longer than an event loop should be kept.
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(context.decode_pool, context.forecast.solve, target), target


def _matched_versions(if_match: str | None) -> tuple[int, ...] | None:
    """The versions a change is conditional on; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    # Weak tags (W/…) never match here (RFC 9110, 13.1.1), and neither does what no version's tag looks like.
    tags = (tag.strip() for tag in if_match.split(","))
    return tuple(
        int(tag[1:-1]) for tag in tags if tag[:1] == tag[-1:] == '"' and tag[1:-1].isascii() and tag[1:-1].isdecimal()
    )


def _shown(target: Target | None) -> dict[TargetKind, float] | None:
    return None if target is None else {target.kind: target.value}


def _named(thresholds: tuple[float, ...], context: Context) -> str | None:
    points = context.manifest.operating_points
    return next((point.name for point in points if point.thresholds == thresholds), None)


def _expected(thresholds: tuple[float, ...], context: Context) -> Expected | None:
    outcome = context.forecast.expected(thresholds)
    return None if outcome is None else Expected(**_fields(outcome))


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "accuracy": outcome.accuracy,
        "mean_macs": outcome.mean_macs,
        "exit_shares": list(outcome.exit_shares),
    }


def _document(point: OperatingPoint, context: Context) -> Response:
    settings = context.settings
    document = Configuration(
        version=point.version,
        thresholds=list(point.thresholds),
        target=_shown(point.target),
        operating_point=_named(point.thresholds, context),
        temperatures=list(context.manifest.temperatures),
        limits=Limits(
            max_inflight=settings.max_inflight,
            max_batch_size=settings.max_batch_size,
            max_image_pixels=settings.max_image_pixels,
            max_body_bytes=settings.max_body_bytes,
            max_images_per_request=settings.max_images_per_request,
        ),
        expected=_expected(point.thresholds, context),
        updated_at=point.updated_at,
    )
    return Response(document.to_json(), headers={"ETag": f'"{point.version}"'}, media_type="application/json")
