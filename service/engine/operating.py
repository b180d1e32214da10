"""The live configuration: exit thresholds that can change while requests are under way."""

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.errors import InvalidParameterError, VersionConflictError


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
    return tuple(_threshold(number) for number in values)


def _threshold(value: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value)
    raise InvalidParameterError(f"a threshold must be a finite number of at least 0, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One version of the live configuration.

    Attributes:
        version: counts from 1, one more at every change.
        thresholds: one per exit but the last.
        updated_at: when it came into force, UTC.
    """

    version: int
    thresholds: tuple[float, ...]
    updated_at: datetime


class OperatingPoints:
    """Holds the current operating point. Thread-safe; a change is taken whole or refused whole."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._num_stages = len(thresholds) + 1
        self._lock = threading.Lock()
        self._current = OperatingPoint(
            version=1, thresholds=parse_thresholds(thresholds, self._num_stages), updated_at=datetime.now(UTC)
        )

    @property
    def current(self) -> OperatingPoint:
        """What requests admitted now are given."""
        return self._current

    def update(self, thresholds: float | Sequence[float], *, if_version: int | None = None) -> OperatingPoint:
        """Put new thresholds into force and return the new operating point.

        Args:
            if_version: change only if this is still the current version.

        Raises:
            InvalidParameterError: when the thresholds are not valid.
            VersionConflictError: when the current version is another one.
        """
        parsed = parse_thresholds(thresholds, self._num_stages)
        with self._lock:
            version = self._current.version
            if if_version is not None and if_version != version:
                raise VersionConflictError(f"the configuration is at version {version}, not {if_version}")
            now = datetime.now(UTC)
            self._current = OperatingPoint(version=version + 1, thresholds=parsed, updated_at=now)
            return self._current

    async def change(self, thresholds: float | Sequence[float], *, if_version: int | None = None) -> OperatingPoint:
        """`update`, for callers to whom the configuration may be in another process."""
        return self.update(thresholds, if_version=if_version)
