"""The parameters of a classification, and the exit policy made from them."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, unquote_plus

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.engine.operating import OperatingPoint, parse_thresholds
from service.engine.policy import Policy
from service.errors import InvalidParameterError
from service.http.context import Context
from service.http.problems import describe

NUMBER = r" *([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})? *"
"""A regular expression for a threshold in a query."""

# JSON readers with double precision, and the messages between our processes, have no larger integers.
_MAX_INTEGER = 2**53 - 1
_DEFAULT_TOP_K = 5
_MAX_FIELDS = 64

_ParametersT = TypeVar("_ParametersT", bound=BaseModel)


def _boolean(value: Any) -> Any:
    # Pydantic would also accept "on", "y" and more, which the API's description does not have.
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("expected true or false")
    return value


def _integer(value: Any) -> Any:
    # JSON has one kind of number, so 1.0 is an integer too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Stage = Annotated[int, Field(ge=0), BeforeValidator(_integer)]
Count = Annotated[int, Field(ge=1, le=_MAX_INTEGER), BeforeValidator(_integer)]

_THRESHOLDS = "The confidence at which an image exits: one number for all exits, or one per exit but the last"
_RANGE = "0 is always, above 1 is never."


class PolicyParameters(BaseModel):
    """The parameters of the exit policy, in every protocol."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_stage: Stage = Field(default=0, description="No exit before this stage.")
    max_stage: Stage | None = Field(default=None, description="The last stage allowed to run.")
    max_macs: Count | None = Field(
        default=None, description="The most MACs for one image; a stage that would exceed it does not start."
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Milliseconds from the arrival of the request's head. No stage starts that cannot end by then: the "
        "answer is the best one so far.",
    )


class _AnswerParameters(PolicyParameters):
    top_k: Count | None = Field(
        default=None, description=f"The number of classes to return; by default {_DEFAULT_TOP_K}, or all of fewer."
    )
    trace: Annotated[bool, BeforeValidator(_boolean)] = Field(
        default=False, description="Whether to return the prediction of every stage."
    )


class ClassifyParameters(_AnswerParameters):
    """The parameters in a query; unknown ones are refused."""

    thresholds: str | None = Field(
        default=None, description=f"{_THRESHOLDS}, separated by commas. {_RANGE}", examples=["0.9", "0.9,0.8,0.7"]
    )


class JsonParameters(_AnswerParameters):
    """The parameters in a JSON body; unknown ones are refused."""

    thresholds: float | list[float] | None = Field(default=None, description=f"{_THRESHOLDS}. {_RANGE}")


_DEFAULTS = ClassifyParameters()


def check_parameters(kind: type[_ParametersT], given: dict[str, Any], *, strict: bool = True) -> _ParametersT:
    """Parameters of this kind, checked; null is the same as absence.

    Args:
        strict: whether a value must have its JSON type, as in a body; text in a query is converted.

    Raises:
        InvalidParameterError: naming every parameter that is unknown or has a wrong value.
    """
    try:
        return kind.model_validate(without_nulls(given), strict=strict)
    except ValidationError as error:
        raise InvalidParameterError(describe(error.errors())) from error


def without_nulls(given: dict[str, Any] | None) -> dict[str, Any]:
    """The values of an optional object that are not null; many clients send null for what they leave out."""
    return {name: value for name, value in (given or {}).items() if value is not None}


def read_parameters(query: bytes) -> ClassifyParameters:
    """The parameters of a query string; if one is repeated, its last value counts.

    Raises:
        InvalidParameterError: naming every parameter that is unknown or has a wrong value.
    """
    if not query:
        return _DEFAULTS
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise InvalidParameterError(f"the query has more than {_MAX_FIELDS} parameters") from error
    return check_parameters(ClassifyParameters, dict(pairs), strict=False)


def refuse_query(query: bytes, remedy: str) -> None:
    """Refuse a query on a route without query parameters.

    Args:
        remedy: where the parameter belongs.

    Raises:
        InvalidParameterError: the query is not empty.
    """
    if query:
        name = unquote_plus(query.decode("latin-1").partition("&")[0].partition("=")[0])
        raise InvalidParameterError(f"unknown query parameter {name[:100]!r}: none is taken here; {remedy}")


def combined(query: ClassifyParameters, body: JsonParameters) -> JsonParameters:
    """The parameters of a query and of a JSON body; the body has precedence."""
    given = query.model_dump(exclude_unset=True) | body.model_dump(exclude_unset=True)
    return JsonParameters.model_construct(**given)


def policy_maker(
    parameters: ClassifyParameters | JsonParameters, context: Context, deadline: float | None
) -> Callable[[OperatingPoint], Policy]:
    """Check the parameters against the model; returns a function from the operating point in force to the policy.

    Args:
        deadline: of the request, after `deadline_ms` was applied.

    Raises:
        InvalidParameterError: naming the first parameter that is outside its range, and the limit.
    """
    architecture = context.manifest.architecture
    top_k = parameters.top_k or min(_DEFAULT_TOP_K, architecture.num_classes)
    if top_k > architecture.num_classes:
        raise InvalidParameterError(
            f"top_k must be at most {architecture.num_classes}, the classes there are, got {top_k}"
        )
    given = parameters.thresholds
    numbers = _numbers(given) if isinstance(given, str) else given
    thresholds = None if numbers is None else parse_thresholds(numbers, architecture.num_stages)
    max_stage = architecture.num_stages - 1 if parameters.max_stage is None else parameters.max_stage

    def make(point: OperatingPoint) -> Policy:
        return Policy(
            thresholds=point.thresholds if thresholds is None else thresholds,
            config_version=point.version,
            follows_config=thresholds is None,
            min_stage=parameters.min_stage,
            max_stage=max_stage,
            max_macs=parameters.max_macs,
            deadline=deadline,
            top_k=top_k,
            trace=parameters.trace,
        )

    make(context.operating_points.current).check(context.engine.stage_macs)
    return make


def _numbers(text: str) -> float | list[float]:
    items = text.split(",")
    # float() also accepts "1_0" and "nan".
    if not all(re.fullmatch(NUMBER, item) for item in items):
        raise InvalidParameterError(f"thresholds: {text[:100]!r} is not a number from 0 on, or such with commas")
    numbers = [float(item) for item in items]
    return numbers if len(numbers) > 1 else numbers[0]
