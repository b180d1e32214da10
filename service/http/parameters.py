"""The parameters of a classification, and the exit policy they make."""

import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_plus

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.engine.operating import OperatingPoint, parse_thresholds
from service.engine.policy import Policy
from service.errors import InvalidParameterError
from service.http.context import Context
from service.http.problems import describe

NUMBER = r" *([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})? *"
"""A threshold in a query, as a regular expression."""

_DEFAULT_TOP_K = 5
_MAX_FIELDS = 64
_NUMBER = re.compile(NUMBER)


def _boolean(value: Any) -> Any:
    # Pydantic would also take "on", "y" and more, which the API's description does not promise.
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError("expected true or false")
        return value == "true"
    return value


def _integer(value: Any) -> Any:
    # JSON has one kind of number: to many who write it, 1 and 1.0 are the same.
    return int(value) if isinstance(value, float) and value.is_integer() else value


MAX_INTEGER = 2**53 - 1
"""Beyond it, not everybody who reads JSON has the same number, and messages between processes have none."""

Stage = Annotated[int, Field(ge=0), BeforeValidator(_integer)]
Count = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(_integer)]

_TRACE = "Whether to return every stage's prediction."
_THRESHOLDS = "0 is always, anything above 1 is never."


class PolicyParameters(BaseModel):
    """What may be asked of an image's walk, however it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_stage: Stage = Field(default=0, description="No exit before this stage.")
    max_stage: Stage | None = Field(default=None, description="The last stage allowed to run.")
    max_macs: Count | None = Field(
        default=None,
        description="Multiply-accumulates one image may cost; a stage beyond is not begun.",
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Milliseconds from the arrival of the request's head. No stage is begun that cannot finish by "
        "then: the best answer so far is given.",
    )


class _AnswerParameters(PolicyParameters):
    top_k: Count | None = Field(
        default=None, description=f"Classes to return; {_DEFAULT_TOP_K} or all there are by default."
    )
    trace: Annotated[bool, BeforeValidator(_boolean)] = Field(default=False, description=_TRACE)


class ClassifyParameters(_AnswerParameters):
    """What a client may ask for in the query; anything else is refused."""

    thresholds: str | None = Field(
        default=None,
        description="Confidence at which an image leaves: one number for all exits, or one per exit but the "
        f"last, separated by commas. {_THRESHOLDS}",
        examples=["0.9", "0.9,0.8,0.7"],
    )


class JsonParameters(_AnswerParameters):
    """What a client may ask for in a JSON body; anything else is refused."""

    thresholds: float | list[float] | None = Field(
        default=None,
        description="Confidence at which an image leaves: one number for all exits, or one per exit but the "
        f"last. {_THRESHOLDS}",
    )
    trace: bool = Field(default=False, description=_TRACE)


_DEFAULTS = ClassifyParameters()


def read_parameters(query: bytes) -> ClassifyParameters:
    """The parameters of a query string; of one that is given twice, the last.

    Raises:
        InvalidParameterError: naming every parameter that is unknown or has no such value.
    """
    if not query:
        return _DEFAULTS
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise InvalidParameterError(f"the query has more than {_MAX_FIELDS} parameters") from error
    try:
        return ClassifyParameters.model_validate(dict(pairs))
    except ValidationError as error:
        raise InvalidParameterError(describe(error.errors())) from error


def refuse_query(query: bytes, remedy: str) -> None:
    """Refuse whatever a query asks of a route that takes nothing there: it would not be done.

    Args:
        remedy: where to say it instead.

    Raises:
        InvalidParameterError: there is something in the query.
    """
    if query:
        name = unquote_plus(query.decode("latin-1").partition("&")[0].partition("=")[0])
        raise InvalidParameterError(f"unknown query parameter {name[:100]!r}: none is taken here; {remedy}")


def combined(query: ClassifyParameters, body: JsonParameters) -> JsonParameters:
    """What is asked for in a query and in a JSON body; where both say something, the body is right."""
    given = query.model_dump(exclude_unset=True) | body.model_dump(exclude_unset=True)
    return JsonParameters.model_construct(**given)


def policy_maker(
    parameters: ClassifyParameters | JsonParameters, context: Context, deadline: float | None
) -> Callable[[OperatingPoint], Policy]:
    """Check the parameters against the model; the result makes the policy once the configuration is known.

    Args:
        deadline: of the request, the parameters' own included.

    Raises:
        InvalidParameterError: naming the first parameter that is outside its range, and the limit.
    """
    architecture = context.manifest.architecture
    top_k = parameters.top_k or min(_DEFAULT_TOP_K, architecture.num_classes)
    if top_k > architecture.num_classes:
        raise InvalidParameterError(
            f"top_k must be at most {architecture.num_classes}, the classes there are, got {top_k}"
        )
    thresholds = None
    if parameters.thresholds is not None:
        given = parameters.thresholds
        numbers = _numbers(given) if isinstance(given, str) else given
        thresholds = parse_thresholds(numbers, architecture.num_stages)
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
    # Python's own reading would also take 1_0, " 1" and nan.
    if not all(map(_NUMBER.fullmatch, items)):
        raise InvalidParameterError(f"thresholds: {text[:100]!r} is not a number from 0 on, or such with commas")
    numbers = [float(item) for item in items]
    return numbers if len(numbers) > 1 else numbers[0]
