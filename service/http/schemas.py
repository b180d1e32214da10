"""The shapes of all answers.

Those given for every image are typed dictionaries: as quick to build and to write as any, and pydantic describes them
all the same.
"""

from datetime import datetime
from typing import Any, NotRequired

from pydantic import BaseModel, ConfigDict, with_config
from typing_extensions import TypedDict

from service.engine.operating import TargetKind
from service.engine.policy import ExitReason

_CONFIG = ConfigDict(extra="forbid", frozen=True)


class Schema(BaseModel):
    """Base of the answers that are made now and then; a field that was never set does not appear."""

    model_config = _CONFIG

    def to_json(self) -> str:
        """The answer's JSON text."""
        return self.model_dump_json(exclude_unset=True)


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
    """One class with its softmax probability."""

    label: str
    index: int
    confidence: float


@with_config(_CONFIG)
class Exit(TypedDict):
    """Where and why the image left the cascade; the last stage has no threshold."""

    stage: int
    grid: int
    reason: ExitReason
    threshold: float | None


@with_config(_CONFIG)
class Compute(TypedDict):
    """What the answer cost, over all stages that ran; `fraction` is of the plain ViT's MACs."""

    macs: int
    baseline_macs: int
    fraction: float
    tokens: int


@with_config(_CONFIG)
class Timing(TypedDict):
    """Milliseconds; `compute` counts the whole duration of each batch the image was in."""

    decode: float
    queue: float
    compute: float
    total: float


@with_config(_CONFIG)
class TracedStage(ClassScore):
    """What one stage said, and the confidence at which an image may leave there; the last stage has no threshold."""

    stage: int
    grid: int
    threshold: float | None


@with_config(_CONFIG)
class ImageResult(TypedDict):
    """One image's answer; `trace` only when asked for."""

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
    """In a list, one image's error; the others are not affected."""

    error: Problem


@with_config(_CONFIG)
class Answered(TypedDict):
    """What every answer says about its request."""

    id: str
    model: str
    config_version: int


@with_config(_CONFIG)
class Classification(Answered, ImageResult):
    """The answer to one image."""


@with_config(_CONFIG)
class ClassificationList(Answered):
    """The answers to several images, in their order."""

    results: list[ImageResult | ImageError]


@with_config(_CONFIG)
class Index(TypedDict):
    """Where things are: pages relative to this one, and a line about each operation."""

    name: str
    version: str
    model: str
    console: str
    docs: str
    description: str
    operations: dict[str, str]


@with_config(_CONFIG)
class Live(TypedDict):
    """The process can make progress."""

    live: bool
    state: str


@with_config(_CONFIG)
class Ready(TypedDict):
    """Requests are taken."""

    ready: bool
    state: str


class Limits(Schema):
    """What a request has to stay within."""

    max_inflight: int
    max_batch_size: int
    max_image_pixels: int
    max_body_bytes: int
    max_images_per_request: int


class Expected(Schema):
    """What thresholds did to the held-out images of the model's calibration table."""

    accuracy: float
    mean_macs: float
    exit_shares: list[float]


class Simulation(Schema):
    """What a configuration would do, `target` being what its thresholds were solved for."""

    thresholds: list[float]
    target: dict[TargetKind, float] | None
    operating_point: str | None
    expected: Expected


class CurvePoint(Expected):
    """Thresholds that nothing cheaper is as accurate as, with what they did to those images."""

    thresholds: list[float]


class ExitPoint(Schema):
    """What would be if all images left at one exit."""

    stage: int
    accuracy: float
    mean_macs: float


class Curve(Schema):
    """Accuracy over mean MACs, the cheapest first; empty for a model without a calibration table."""

    baseline_macs: int
    points: list[CurvePoint]
    exits: list[ExitPoint]


class ConfigurationVersion(Schema):
    """What held from `updated_at` on; `changed_by` is the name of a key, `loopback`, or `model` for its own."""

    version: int
    thresholds: list[float]
    target: dict[TargetKind, float] | None
    changed_by: str
    updated_at: datetime


class ConfigurationHistory(Schema):
    """The last versions, the newest first."""

    versions: list[ConfigurationVersion]


class Configuration(Schema):
    """The live configuration.

    `target` is what the thresholds were solved for, null where they were given; `operating_point` is the model's name
    for them, null where it has none; `expected` is null for a model without a calibration table.
    """

    version: int
    thresholds: list[float]
    target: dict[TargetKind, float] | None
    operating_point: str | None
    temperatures: list[float]
    limits: Limits
    expected: Expected | None
    updated_at: datetime


class StageInfo(Schema):
    """One exit: its own cost, and the cost of leaving there, also as a fraction of the plain ViT's.

    Attributes:
        px: side of the square it looks at.
    """

    stage: int
    grid: int
    px: int
    num_tokens: int
    macs: int
    cumulative_macs: int
    fraction: float


class NamedPoint(Schema):
    """Thresholds that `/config` takes by name, and what they are said to bring."""

    name: str
    thresholds: list[float]
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
    """The running service; `device` and `dtype` are what the stages really use."""

    name: str
    version: str
    model: str
    state: str
    device: str
    dtype: str
    versions: dict[str, str]
