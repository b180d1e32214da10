"""`/config`: reads, changes and simulates the live thresholds."""

import asyncio
from codecs import BOM_UTF8
from dataclasses import asdict
from itertools import accumulate
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Request, Response
from pydantic import ValidationError

from service.engine.operating import Change, OperatingPoint, Target, TargetKind
from service.errors import InvalidParameterError, UnsupportedMediaError, VersionConflictError
from service.http import problems
from service.http.authorization import require_admin
from service.http.bodies import read_body
from service.http.changes import BODY_TYPES, ConfigurationPatch, ConfigurationReplacement, Simulated
from service.http.context import Context, ContextDep
from service.http.description import body_schema
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

router = APIRouter()

_MAX_BODY_BYTES = 65_536
_ETAG = {"ETag": {"description": "The version, quoted.", "required": True, "schema": {"type": "string"}}}
_CHANGED = {200: {"headers": _ETAG}, **problems.responses(401, 403, 412, 413, 415, 422, 500, 503)}

_IfMatch = Annotated[str | None, Header(description="Change only the version with this ETag.")]
_PatchT = TypeVar("_PatchT", bound=ConfigurationPatch)


def _body_of(model: type[ConfigurationPatch]) -> dict[str, object]:
    content = {media_type: {"schema": body_schema(model)} for media_type in BODY_TYPES}
    return {"requestBody": {"required": True, "content": content}}


@router.get("/config", summary="The live configuration", responses={200: {"headers": _ETAG}, **problems.responses(500)})
async def get_config(context: ContextDep, response: Response) -> Configuration:
    """The configuration of requests that are admitted now."""
    return _document(context.operating_points.current, context, response)


@router.patch(
    "/config",
    summary="Change the live configuration",
    responses=_CHANGED,
    openapi_extra=_body_of(ConfigurationPatch),
)
async def patch_config(
    request: Request, context: ContextDep, response: Response, if_match: _IfMatch = None
) -> Configuration:
    """Changes the configuration of requests that are admitted from now on, as a whole or not at all."""
    return _document(await _changed(request, context, if_match, ConfigurationPatch), context, response)


@router.put(
    "/config",
    summary="Replace the live configuration",
    responses=_CHANGED,
    openapi_extra=_body_of(ConfigurationReplacement),
)
async def put_config(
    request: Request, context: ContextDep, response: Response, if_match: _IfMatch = None
) -> Configuration:
    """Replaces the configuration of requests that are admitted from now on: thresholds, or a target."""
    return _document(await _changed(request, context, if_match, ConfigurationReplacement), context, response)


@router.post(
    "/config/simulate",
    summary="What a configuration would do",
    responses=problems.responses(413, 415, 422, 500),
    openapi_extra=_body_of(Simulated),
)
async def simulate(request: Request, context: ContextDep) -> Simulation:
    """Accuracy, mean MACs and exit shares on the held-out images of the calibration table; changes nothing."""
    thresholds, target = await _wanted(await _read(request, Simulated), context)
    expected = _expected(thresholds, context)
    if expected is None:
        raise InvalidParameterError("the model has no calibration table to simulate with; see dvt calibrate")
    return Simulation(
        thresholds=thresholds,
        target=_shown(target),
        operating_point=_name_of(thresholds, context),
        expected=expected,
    )


@router.get("/config/curve", summary="What accuracy each cost can buy", responses=problems.responses(500))
async def curve(context: ContextDep) -> Curve:
    """The best thresholds: on the held-out images, no others are as accurate for as few MACs."""
    loop = asyncio.get_running_loop()
    points = await loop.run_in_executor(context.decode_pool, lambda: context.forecast.curve)
    exits = zip(context.forecast.exit_accuracies, accumulate(context.engine.stage_macs), strict=False)
    return Curve(
        baseline_macs=context.engine.baseline_macs,
        points=[CurvePoint(thresholds=point.thresholds, **asdict(point.outcome)) for point in points],
        exits=[
            ExitPoint(stage=stage, accuracy=accuracy, mean_macs=macs) for stage, (accuracy, macs) in enumerate(exits)
        ],
    )


@router.get("/config/history", summary="The last versions of the configuration", responses=problems.responses(500))
async def history(context: ContextDep) -> ConfigurationHistory:
    """The thresholds of each version, when they came into force, and the name of the key; the newest first."""
    return ConfigurationHistory(
        versions=[
            ConfigurationVersion(
                version=point.version,
                thresholds=point.thresholds,
                target=_shown(point.target),
                changed_by=point.changed_by,
                updated_at=point.updated_at,
            )
            for point in reversed(context.operating_points.history)
        ]
    )


async def _changed(
    request: Request, context: Context, if_match: str | None, model: type[ConfigurationPatch]
) -> OperatingPoint:
    changed_by = require_admin(request, context)
    body = await _read(request, model)
    versions = _matched_versions(if_match)
    current = context.operating_points.current
    if body.says_nothing:
        if versions is not None and current.version not in versions:
            raise VersionConflictError(
                f"the configuration is at version {current.version}, If-Match is {(if_match or '')[:100]}"
            )
        return current
    thresholds, target = await _wanted(body, context)
    change = Change(thresholds=thresholds, target=target, changed_by=changed_by)
    return await context.operating_points.change(change, if_version=versions)


async def _read(request: Request, model: type[_PatchT]) -> _PatchT:
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
    """The thresholds a body asks for, and the target they were solved for."""
    current = context.operating_points.current
    if body.says_nothing:
        return current.thresholds, current.target
    target = body.wanted_target
    if target is None:
        return body.wanted_thresholds(context.manifest), None
    # Building the solver takes too long for the event loop.
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(context.decode_pool, context.forecast.solve, target), target


def _matched_versions(if_match: str | None) -> tuple[int, ...] | None:
    """The versions a change is conditional on; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    # Weak tags (W/…) never match (RFC 9110, 13.1.1), nor does a tag that no version has.
    tags = (tag.strip() for tag in if_match.split(","))
    return tuple(
        int(tag[1:-1]) for tag in tags if tag[:1] == tag[-1:] == '"' and tag[1:-1].isascii() and tag[1:-1].isdecimal()
    )


def _shown(target: Target | None) -> dict[TargetKind, float] | None:
    return None if target is None else {target.kind: target.value}


def _name_of(thresholds: tuple[float, ...], context: Context) -> str | None:
    points = context.manifest.operating_points
    return next((point.name for point in points if point.thresholds == thresholds), None)


def _expected(thresholds: tuple[float, ...], context: Context) -> Expected | None:
    outcome = context.forecast.expected(thresholds)
    return None if outcome is None else Expected(**asdict(outcome))


def _document(point: OperatingPoint, context: Context, response: Response) -> Configuration:
    response.headers["ETag"] = f'"{point.version}"'
    return Configuration(
        version=point.version,
        thresholds=point.thresholds,
        target=_shown(point.target),
        operating_point=_name_of(point.thresholds, context),
        temperatures=context.manifest.temperatures,
        limits=Limits.model_validate(context.settings, from_attributes=True),
        expected=_expected(point.thresholds, context),
        updated_at=point.updated_at,
    )
