"""The live configuration: exit thresholds, and the target they were solved for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from service.errors import InvalidParameterError

TargetKind = Literal["mean_macs", "fraction", "accuracy", "accuracy_drop"]

OF_THE_MODEL = "model"
"""`changed_by` of the first version, the model's own thresholds."""


def parse_thresholds(value: float | Sequence[float], num_stages: int) -> tuple[float, ...]:
    """Thresholds as one number for all exits, or one per exit but the last, checked.

    0 always exits; anything above 1 never does.

    Raises:
        InvalidParameterError: unless there are `num_stages - 1` finite numbers of at least 0.
    """
    expected = num_stages - 1
    values = [value] * expected if isinstance(value, int | float) else value
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise InvalidParameterError(f"thresholds must be a number or a list of {expected}, got {value!r}")
    if len(values) != expected:
        raise InvalidParameterError(f"expected {expected} thresholds, one per exit but the last; got {len(values)}")
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or not 0 <= each <= sys.float_info.max:
            raise InvalidParameterError(f"a threshold must be a finite number of at least 0, got {each!r}")
    return tuple(map(float, values))


@dataclass(frozen=True, slots=True)
class Target:
    """The target that thresholds were solved for.

    Attributes:
        value: by kind: MACs per image, a fraction of the baseline's MACs, an accuracy, or a loss of accuracy against
            the full cascade.
    """

    kind: TargetKind
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A requested change: new thresholds, the target they were solved for, and the name of the key."""

    thresholds: tuple[float, ...]
    target: Target | None = None
    changed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One version of the live configuration.

    Attributes:
        version: counts the changes, from 1.
        thresholds: one per exit but the last.
        calibration: digest of the weights and the calibration they belong to; None if unknown.
        changed_by: name of the key, or `OF_THE_MODEL`.
        updated_at: when it came into force, UTC.
    """

    version: int
    thresholds: tuple[float, ...]
    target: Target | None = None
    calibration: str | None = None
    changed_by: str = OF_THE_MODEL
    updated_at: datetime

    def changed(self, change: Change, calibration: str | None = None) -> "OperatingPoint":
        """The next version; its thresholds belong to this calibration."""
        return OperatingPoint(
            version=self.version + 1,
            thresholds=change.thresholds,
            target=change.target,
            calibration=calibration,
            changed_by=change.changed_by,
            updated_at=datetime.now(UTC),
        )


History = tuple[OperatingPoint, ...]
"""Successive versions; the last one is in force."""
