"""What the engine process and its front ends say to each other.

Order matters: one channel delivers in the order sent, and a front end reports what it counted before it sends the
image it counted, so that the engine never sees the end of an image it has not heard of.
"""

from typing import Any

import msgspec

from service.engine.engine import EngineState
from service.engine.operating import Change, History, OperatingPoint
from service.engine.policy import Policy
from service.engine.task import Answer


class Submit(msgspec.Struct, tag="submit", frozen=True, array_like=True):
    """One admitted image for the engine.

    Attributes:
        task_id: unique in its front end.
        pixels: uint8, [3, crop_px, crop_px], as bytes.
    """

    task_id: int
    policy: Policy
    pixels: bytes


class Cancel(msgspec.Struct, tag="cancel", frozen=True, array_like=True):
    """The client of an image has left."""

    task_id: int


class Counted(msgspec.Struct, tag="counted", frozen=True, array_like=True):
    """What a front end counted since it last said so.

    Attributes:
        requests: status of each request that was answered, and seconds where it was not refused.
        presented: images that came in requests.
        rejected: images refused before they reached the engine, by reason.
        cancelled: images dropped before they reached the engine, by place.
    """

    requests: list[tuple[int, float | None]]
    presented: int
    rejected: dict[str, int]
    cancelled: dict[str, int]


class Configure(msgspec.Struct, tag="configure", frozen=True, array_like=True):
    """Change the live configuration; answered by a `Reply`."""

    call: int
    change: Change
    if_version: tuple[int, ...] | None


class Scrape(msgspec.Struct, tag="scrape", frozen=True, array_like=True):
    """Ask for the metrics in a format that an `Accept` header names; answered by a `Reply`."""

    call: int
    accept: str


class Seen(msgspec.Struct, tag="seen", frozen=True, array_like=True):
    """A version of the configuration holds in this front end from now on."""

    version: int


class Beat(msgspec.Struct, tag="beat", frozen=True, array_like=True):
    """The process that sends it still runs."""


FromFrontEnd = Submit | Cancel | Counted | Configure | Scrape | Seen | Beat


class Failed(msgspec.Struct, tag="failed", frozen=True, array_like=True):
    """An error of `service.errors`, by its name."""

    error: str
    text: str
    retry_after_s: float | None = None


class Welcome(msgspec.Struct, tag="welcome", frozen=True, array_like=True):
    """The first message to a front end: what it needs to know before it can serve.

    Attributes:
        settings: as keyword arguments for `Settings`, secrets in the clear.
        manifest: of the model that the engine has loaded, as JSON; the folder may hold another one by now.
        calibration: its table, as `CalibrationTable.to_bytes` gives it; None where there is none.
        device: where the stages run.
        dtype: floating point type the stages are computed in.
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


class Ended(msgspec.Struct, tag="ended", frozen=True, array_like=True):
    """What became of some tasks."""

    outcomes: list[tuple[int, Answer | Failed]]


class Reply(msgspec.Struct, tag="reply", frozen=True, array_like=True):
    """The answer to a call."""

    call: int
    result: OperatingPoint | bytes | Failed


class Configured(msgspec.Struct, tag="configured", frozen=True, array_like=True):
    """A new configuration; to be confirmed with `Seen`."""

    configuration: History


class State(msgspec.Struct, tag="state", frozen=True, array_like=True):
    """The engine's state has changed."""

    state: EngineState


class Drain(msgspec.Struct, tag="drain", frozen=True, array_like=True):
    """The replica was asked to end: be unready, and go on serving."""


class ShutDown(msgspec.Struct, tag="shut_down", frozen=True, array_like=True):
    """Accept nothing more, finish, and end."""


ToFrontEnd = Welcome | Ended | Reply | Configured | State | Beat | Drain | ShutDown
