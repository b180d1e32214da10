"""The exit rule of one request, fixed at admission."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.errors import InvalidParameterError


class ExitReason(StrEnum):
    """Why an image left at its exit stage."""

    CONFIDENT = "confident"
    FINAL = "final"
    MAX_STAGE = "max_stage"
    MAX_MACS = "max_macs"
    DEADLINE = "deadline"
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The exit rule of one request; serialisable, and never changed after admission.

    Attributes:
        thresholds: one per exit but the last; 0 always exits, anything above 1 never does.
        config_version: the configuration these thresholds came from.
        min_stage: no exit before this stage, however confident.
        max_macs: budget for the whole walk; a stage that would exceed it is not started.
        deadline: reading of `time.monotonic` at which the last prediction so far becomes the answer; one clock for all
            processes of a machine.
        follows_config: whether the thresholds are the configuration's; only these are lowered under load.
        trace: whether to return every stage's prediction.
    """

    thresholds: tuple[float, ...]
    config_version: int
    max_stage: int
    min_stage: int = 0
    max_macs: int | None = None
    deadline: float | None = None
    follows_config: bool = True
    top_k: int = 5
    trace: bool = False

    def check(self, stage_macs: Sequence[int]) -> None:
        """Check the rule against a cascade whose stages take these MACs for one image.

        Raises:
            InvalidParameterError: for the first parameter out of its range.
        """
        last = len(stage_macs) - 1
        if len(self.thresholds) != last:
            raise InvalidParameterError(f"expected {last} thresholds, got {len(self.thresholds)}")
        if not 0 <= self.max_stage <= last:
            raise InvalidParameterError(f"max_stage must be from 0 to {last}, got {self.max_stage}")
        if not 0 <= self.min_stage <= self.max_stage:
            raise InvalidParameterError(f"min_stage must be from 0 to {self.max_stage}, got {self.min_stage}")
        if self.max_macs is not None and self.max_macs < stage_macs[0]:
            least = f"{stage_macs[0]}, the first stage's"
            raise InvalidParameterError(f"max_macs must be at least {least}, got {self.max_macs}")
        if self.top_k < 1:
            raise InvalidParameterError(f"top_k must be at least 1, got {self.top_k}")

    def threshold(self, stage: int) -> float | None:
        """The threshold of a stage, or None for the last one, which always exits."""
        return self.thresholds[stage] if stage < len(self.thresholds) else None

    def exit_reason(self, stage: int, confidence: float, next_macs: int | None) -> ExitReason | None:
        """Why an image leaves after `stage`, or None when it escalates.

        Args:
            confidence: the stage's largest softmax probability.
            next_macs: MACs of the walk including the next stage; None after the last stage.
        """
        threshold = self.threshold(stage)
        if threshold is None or next_macs is None:
            return ExitReason.FINAL
        if stage >= self.min_stage and confidence >= threshold:
            return ExitReason.CONFIDENT
        if stage >= self.max_stage:
            return ExitReason.MAX_STAGE
        if self.max_macs is not None and next_macs > self.max_macs:
            return ExitReason.MAX_MACS
        return None
