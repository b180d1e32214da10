"""`/config`: the live thresholds, read by anyone and changed by the operator, without a restart."""

import hmac
from ipaddress import ip_address
from itertools import accumulate
from typing import Annotated, Self

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, ValidationError, model_validator

from service.api import problems
from service.api.bodies import read_body
from service.api.context import Context, ContextDep
from service.api.schemas import Configuration, Expected, Limits
from service.engine.operating import OperatingPoint
from service.errors import (
    ForbiddenError,
    InvalidParameterError,
    UnauthorizedError,
    UnsupportedMediaError,
    VersionConflictError,
)
from weights.calibration.thresholds import simulate

router = APIRouter()

_MAX_PATCH_BYTES = 65_536
_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_PATCH_TYPES = ("application/merge-patch+json", "application/json")
_ETAG = {"ETag": {"description": "The version, quoted.", "required": True, "schema": {"type": "string"}}}


class ConfigurationPatch(BaseModel):
    """A merge patch: what is absent stays as it is. Nothing can be removed, so null is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: StrictFloat | list[StrictFloat] = Field(
        default_factory=list,
        description="One number for all exits, or one per exit but the last; 0 is always, above 1 is never.",
    )
    operating_point: str = Field(
        default="", description="The thresholds of one of the model's operating points, by its name."
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if {"thresholds", "operating_point"} <= self.model_fields_set:
            raise ValueError("give thresholds or an operating_point, not both")
        return self


_PATCH_BODY = {
    "required": True,
    "content": {media_type: {"schema": ConfigurationPatch.model_json_schema()} for media_type in _PATCH_TYPES},
}


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
    responses={200: {"headers": _ETAG}, **problems.responses(401, 403, 412, 413, 415, 422, 500, 503)},
    openapi_extra={"requestBody": _PATCH_BODY},
)
async def patch_config(
    request: Request,
    context: ContextDep,
    if_match: Annotated[str | None, Header(description="Change only the version with this ETag.")] = None,
) -> Response:
    """Change the thresholds of requests admitted from now on; taken whole or refused whole."""
    _authorize(request, context)
    patch = await _read_patch(request)
    current = context.operating_points.current
    version = _matched_version(if_match, current)
    if "thresholds" in patch.model_fields_set:
        current = await context.operating_points.change(patch.thresholds, if_version=version)
    elif "operating_point" in patch.model_fields_set:
        named = _named_thresholds(patch.operating_point, context)
        current = await context.operating_points.change(named, if_version=version)
    return _document(current, context)


def _authorize(request: Request, context: Context) -> None:
    key = context.settings.admin_key
    if key is None:
        if not _from_loopback(request):
            raise ForbiddenError("without an admin key, the configuration can be changed from loopback only")
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError("changing the configuration needs the admin key as a bearer token")
    # A header arrives decoded as latin-1; this gives back the bytes that were sent.
    if not hmac.compare_digest(token.strip().encode("latin-1"), key.get_secret_value().encode()):
        raise ForbiddenError("the admin key is wrong")


def _from_loopback(request: Request) -> bool:
    # What a proxy on this machine forwards comes from loopback too, but not from someone who sits here.
    if request.client is None or any(name in request.headers for name in _FORWARDING_HEADERS):
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


async def _read_patch(request: Request) -> ConfigurationPatch:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in _PATCH_TYPES:
        raise UnsupportedMediaError(
            f"content type {content_type[:100]!r} is not accepted; send {' or '.join(_PATCH_TYPES)}"
        )
    body = await read_body(request, max_bytes=_MAX_PATCH_BYTES)
    try:
        return ConfigurationPatch.model_validate_json(body)
    except ValidationError as error:
        raise InvalidParameterError(problems.describe(error.errors())) from error


def _matched_version(if_match: str | None, current: OperatingPoint) -> int | None:
    """The version the change is conditional on; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    # Weak tags (W/…) never match here (RFC 9110, 13.1.1).
    if _etag(current) not in (tag.strip() for tag in if_match.split(",")):
        raise VersionConflictError(f"the configuration is at version {current.version}, If-Match is {if_match[:100]}")
    return current.version


def _named_thresholds(name: str, context: Context) -> tuple[float, ...]:
    points = context.manifest.operating_points
    for point in points:
        if point.name == name:
            return point.thresholds
    known = f"{points[0].name} to {points[-1].name}" if points else "none"
    raise InvalidParameterError(f"operating_point {name[:100]!r} is not one of the model's {len(points)} ({known})")


def _etag(point: OperatingPoint) -> str:
    return f'"{point.version}"'


def _expected(thresholds: tuple[float, ...], context: Context) -> Expected | None:
    table = context.calibration
    if table is None:
        return None
    walk_macs = tuple(accumulate(context.engine.stage_macs))
    outcome = simulate(table.confidence_EN, table.correct_EN, walk_macs, thresholds)
    return Expected(accuracy=outcome.accuracy, mean_macs=outcome.mean_macs, exit_shares=list(outcome.exit_shares))


def _document(point: OperatingPoint, context: Context) -> Response:
    settings = context.settings
    document = Configuration(
        version=point.version,
        thresholds=list(point.thresholds),
        operating_point=next(
            (each.name for each in context.manifest.operating_points if each.thresholds == point.thresholds), None
        ),
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
    return Response(document.to_json(), headers={"ETag": _etag(point)}, media_type="application/json")
