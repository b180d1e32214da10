"""The schemas of all answers.

Frequent answers are typed dictionaries, which are fast to build and to encode; pydantic describes both kinds.
"""

from datetime import datetime
from typing import Any, NotRequired

from pydantic import BaseModel, ConfigDict, with_config
from typing_extensions import TypedDict

from service.engine.operating import TargetKind
from service.engine.policy import ExitReason

_CONFIG = ConfigDict(extra="forbid", frozen=True)


class Schema(BaseModel):
    """Base of the infrequent answers."""

    model_config = _CONFIG


@with_config(_CONFIG)
class Problem(TypedDict):
    """An error (RFC 9457); `error` repeats `detail` for clients of other protocols."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    error: str


@with_config(_CONFIG)
class ClassScore(TypedDict):
    """A class with its softmax probability."""

    label: str
    index: int
    confidence: float


@with_config(_CONFIG)
class Exit(TypedDict):
    """The stage at which the image left the cascade, and the reason; the last stage has no threshold."""

    stage: int
    grid: int
    reason: ExitReason
    threshold: float | None


@with_config(_CONFIG)
class Compute(TypedDict):
    """The cost of all stages that ran; `fraction` is of the baseline's MACs."""

    macs: int
    baseline_macs: int
    fraction: float
    tokens: int


@with_config(_CONFIG)
class Timing(TypedDict):
    """Milliseconds; `compute` is the sum of the whole durations of the image's batches."""

    decode: float
    queue: float
    compute: float
    total: float


@with_config(_CONFIG)
class TracedStage(ClassScore):
    """The prediction and the threshold of one stage; the last stage has no threshold."""

    stage: int
    grid: int
    threshold: float | None


@with_config(_CONFIG)
class ImageResult(TypedDict):
    """The answer to one image; `trace` only on request."""

    label: str
    index: int
    confidence: float
    top: list[ClassScore]
    exit: Exit
    compute: Compute
    timing_ms: Timing
    trace: NotRequired[list[TracedStage]]


@with_config(_CONFIG)
class ImageError(TypedDict):
    """The error of one image in a list; the other images are not affected."""

    error: Problem


@with_config(_CONFIG)
class Answered(TypedDict):
    """The fields that every answer has for its request."""

    id: str
    model: str
    config_version: int


@with_config(_CONFIG)
class Classification(Answered, ImageResult):
    """The answer to one image."""


@with_config(_CONFIG)
class ClassificationList(Answered):
    """The answers to several images, in the order of the images."""

    results: list[ImageResult | ImageError]


@with_config(_CONFIG)
class Index(TypedDict):
    """Relative URLs of the pages, and a summary of each operation."""

    name: str
    version: str
    model: str
    console: str
    docs: str
    description: str
    operations: dict[str, str]


@with_config(_CONFIG)
class Live(TypedDict):
    """The process makes progress."""

    live: bool
    state: str


@with_config(_CONFIG)
class Ready(TypedDict):
    """The replica accepts requests."""

    ready: bool
    state: str


class Limits(Schema):
    """The limits of a request."""

    max_inflight: int
    max_batch_size: int
    max_image_pixels: int
    max_body_bytes: int
    max_images_per_request: int


class Expected(Schema):
    """The outcome of thresholds on the held-out images of the calibration table."""

    accuracy: float
    mean_macs: float
    exit_shares: tuple[float, ...]


class Simulation(Schema):
    """The expected outcome of a configuration; `target` is what the thresholds were solved for."""

    thresholds: tuple[float, ...]
    target: dict[TargetKind, float] | None
    operating_point: str | None
    expected: Expected


class CurvePoint(Expected):
    """Thresholds with their outcome; no cheaper thresholds are as accurate."""

    thresholds: tuple[float, ...]


class ExitPoint(Schema):
    """The outcome if all images left at one exit."""

    stage: int
    accuracy: float
    mean_macs: float


class Curve(Schema):
    """Accuracy against mean MACs, the cheapest first; empty for a model without a calibration table."""

    baseline_macs: int
    points: list[CurvePoint]
    exits: list[ExitPoint]


class ConfigurationVersion(Schema):
    """A version in force from `updated_at` on; `changed_by` is a key's name, `loopback`, or `model` for the first."""

    version: int
    thresholds: tuple[float, ...]
    target: dict[TargetKind, float] | None
    changed_by: str
    updated_at: datetime


class ConfigurationHistory(Schema):
    """The last versions, the newest first."""

    versions: list[ConfigurationVersion]


class Configuration(Schema):
    """The live configuration.

    `target` is what the thresholds were solved for, null if they were given; `operating_point` is the model's name
    for them, null if it has none; `expected` is null for a model without a calibration table.
    """

    version: int
    thresholds: tuple[float, ...]
    target: dict[TargetKind, float] | None
    operating_point: str | None
    temperatures: tuple[float, ...]
    limits: Limits
    expected: Expected | None
    updated_at: datetime


class StageInfo(Schema):
    """One exit: the cost of its stage, and the cost up to it, also as a fraction of the baseline.

    Attributes:
        px: side of the stage's input image.
    """

    stage: int
    grid: int
    px: int
    num_tokens: int
    macs: int
    cumulative_macs: int
    fraction: float


class NamedPoint(Schema):
    """An operating point of the model, with its expected accuracy and cost."""

    name: str
    thresholds: tuple[float, ...]
    accuracy: float
    mean_macs: float


class ModelInfo(Schema):
    """A loaded model."""

    name: str
    class_names: list[str]
    stages: list[StageInfo]
    baseline_macs: int
    preprocessing: dict[str, Any]
    thresholds: list[float]
    temperatures: list[float]
    operating_points: list[NamedPoint]
    provenance: dict[str, Any]


class ModelList(Schema):
    """All loaded models."""

    models: list[ModelInfo]


class Info(Schema):
    """The running service; `device` and `dtype` are those that the stages use."""

    name: str
    version: str
    model: str
    state: str
    device: str
    dtype: str
    versions: dict[str, str]
