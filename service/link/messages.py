"""Messages between the engine process and its front ends.

A channel keeps their order. A front end sends its counts before it submits an image that they include, so the engine
process never counts the end of an image that it has not counted as presented.
"""

from typing import Any, Self

import msgspec

from service import errors
from service.engine.engine import EngineState
from service.engine.operating import Change, History, OperatingPoint
from service.engine.policy import Policy
from service.engine.task import Answer
from service.errors import InferenceError, OverloadedError, ServiceError

_ERRORS: dict[str, type[ServiceError]] = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)
}


class _Message(msgspec.Struct, tag=True, array_like=True):
    """Encoded as an array that starts with the name of its class."""


class Submit(_Message):
    """One admitted image for the engine.

    Attributes:
        task_id: unique in its front end.
        pixels: uint8, [3, crop_px, crop_px], as bytes.
    """

    task_id: int
    policy: Policy
    pixels: bytes


class Cancel(_Message):
    """The client of an image has left."""

    task_id: int


class Counted(_Message):
    """Events in a front end since its last report.

    Attributes:
        requests: (status, seconds) of each answered request; no seconds for a refused one.
        presented: images in requests.
        rejected: images refused before they reached the engine, by reason.
        cancelled: images dropped before they reached the engine, by place.
    """

    requests: list[tuple[int, float | None]] = []
    presented: int = 0
    rejected: dict[str, int] = {}
    cancelled: dict[str, int] = {}


class Configure(_Message):
    """Change the live configuration; answered by a `Reply`."""

    call: int
    change: Change
    if_version: tuple[int, ...] | None


class Scrape(_Message):
    """Request the metrics in the format of an `Accept` header; answered by a `Reply`."""

    call: int
    accept: str


class Seen(_Message):
    """This version of the configuration is in force in the front end."""

    version: int


class Beat(_Message):
    """The sending process is running."""


FromFrontEnd = Submit | Cancel | Counted | Configure | Scrape | Seen | Beat


class Failed(_Message):
    """An error of `service.errors`, by the name of its class."""

    name: str
    text: str
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """The message for an error; one from outside `service.errors` becomes an `InferenceError` without its text."""
        if not isinstance(error, ServiceError):
            return cls(InferenceError.__name__, "the engine failed unexpectedly")
        return cls(type(error).__name__, str(error), getattr(error, "retry_after_s", None))

    def error(self) -> ServiceError:
        """The error this message stands for; an `InferenceError` for an unknown name."""
        kind = _ERRORS.get(self.name, InferenceError)
        if issubclass(kind, OverloadedError) and self.retry_after_s is not None:
            return kind(self.text, self.retry_after_s)
        return kind(self.text)


class Welcome(_Message):
    """The first message to a front end: all that it needs to serve.

    Attributes:
        settings: keyword arguments for `Settings`, with secrets in plain text.
        manifest: JSON, of the model in the engine; the model's folder may have changed since it was loaded.
        calibration: the calibration table as `CalibrationTable.to_bytes` returns it; None without one.
        device: where the stages run.
        dtype: floating point type of the stages.
    """

    settings: dict[str, Any]
    manifest: bytes
    calibration: bytes | None
    device: str
    stage_macs: tuple[int, ...]
    baseline_macs: int
    configuration: History
    state: EngineState
    dtype: str


class Ended(_Message):
    """The outcomes of some tasks, by task id."""

    outcomes: list[tuple[int, Answer | Failed]]


class Reply(_Message):
    """The answer to `Configure` or `Scrape`."""

    call: int
    result: OperatingPoint | bytes | Failed


class Configured(_Message):
    """A new configuration; confirmed by `Seen`."""

    configuration: History


class State(_Message):
    """The engine has a new state."""

    state: EngineState


class Drain(_Message):
    """The replica will end soon: stop being ready, but continue to serve."""


class ShutDown(_Message):
    """Accept no more connections, finish the requests in progress, and end."""


ToFrontEnd = Welcome | Ended | Reply | Configured | State | Beat | Drain | ShutDown
