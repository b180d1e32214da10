"""One image's walk through the cascade and its result. Plain Python and NumPy, no torch."""

import math
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service.engine.policy import ExitReason, Policy

Pixels = npt.NDArray[np.uint8]
"""One decoded image: uint8, [3, crop_px, crop_px]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePrediction:
    """One stage's best classes for one image and their softmax probabilities, [top_k] each, most probable first."""

    stage: int
    indices: tuple[int, ...]
    probs: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """The largest softmax probability."""
        return self.probs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The engine's answer for one image; serialisable.

    Attributes:
        prediction: the exit stage's prediction.
        threshold: the exit stage's threshold in force; None at the last stage.
        macs: MACs executed for this image, over all stages.
        queue_s: seconds spent waiting in stage queues.
        compute_s: seconds spent in batches (their whole durations).
        trace: every stage's prediction if requested, else empty.
    """

    prediction: StagePrediction
    reason: ExitReason
    threshold: float | None
    macs: int
    config_version: int
    queue_s: float
    compute_s: float
    trace: tuple[StagePrediction, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One admitted image. Owned by the worker; other threads may only set `cancelled`.

    Attributes:
        task_id: unique in this engine.
        submitted_at: seconds on the engine's clock.
        stage: the current stage, waiting or running; `enqueued_at` is the time of joining its queue.
        predictions: those of the finished stages.
    """

    task_id: int
    pixels: Pixels
    policy: Policy
    submitted_at: float
    stage: int = 0
    enqueued_at: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    predictions: list[StagePrediction] = field(default_factory=list)
    cancelled: bool = False
    future: Future[Answer] = field(default_factory=Future)

    @property
    def deadline(self) -> float:
        """The policy's deadline, infinite if there is none."""
        return math.inf if self.policy.deadline is None else self.policy.deadline
