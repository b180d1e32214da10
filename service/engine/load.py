"""Thresholds that give way under load: when, and how far. Plain Python: no thread, no clock but `now` passed in."""

from collections.abc import Callable, Sequence
from enum import Enum, auto

from service.engine.policy import Policy

Thresholds = tuple[float, ...]

Ladder = Callable[[int, Thresholds], Sequence[Thresholds]]
"""(configuration's version, its thresholds) -> thresholds for load level 1, 2 … `NUM_LEVELS`, none of them higher
than the configuration's; the last one holds for levels beyond, and none at all means that nothing gives way."""

NUM_LEVELS = 3

HIGH_WATER = 0.5
LOW_WATER = 0.25
RISE_AFTER_S = 0.1
FALL_AFTER_S = 2.0


class _Mark(Enum):
    ABOVE = auto()
    BETWEEN = auto()
    BELOW = auto()


class LoadControl:
    """A level from 0 to `NUM_LEVELS` that follows the pressure, quickly up and slowly down.

    Pressure is the share of permits taken: at 1 requests are refused. The level rises by one for every
    `RISE_AFTER_S` the pressure has stayed at or above the high-water mark, at most one an update, so that each
    level can show what it does; it falls by one for every `FALL_AFTER_S` at or below the low-water mark, also while
    nobody updates. Between the marks it stays. So it cannot change direction faster than once in `FALL_AFTER_S`.
    """

    def __init__(self) -> None:
        self._level = 0
        self._mark = _Mark.BETWEEN
        self._since = 0.0

    def level(self, now: float) -> int:
        """The level in force. May be read from any thread."""
        return max(0, self._level - self._falls(now))

    def update(self, pressure: float, now: float) -> int:
        """Take note of the pressure from `now` on; the level now in force."""
        falls = self._falls(now)
        self._level = max(0, self._level - falls)
        self._since += falls * FALL_AFTER_S
        mark = _Mark.ABOVE if pressure >= HIGH_WATER else _Mark.BELOW if pressure <= LOW_WATER else _Mark.BETWEEN
        if mark is not self._mark:
            self._mark, self._since = mark, now
        elif mark is _Mark.ABOVE and now - self._since >= RISE_AFTER_S:
            self._level, self._since = min(self._level + 1, NUM_LEVELS), now
        return self._level

    def _falls(self, now: float) -> int:
        return int((now - self._since) / FALL_AFTER_S) if self._mark is _Mark.BELOW else 0


class Shedding:
    """What thresholds give way to while the load lasts. Owned by the worker.

    Args:
        ladder: called while the level is above 0, so for every image: it must be quick.
        pressure: the share of permits taken.
    """

    def __init__(self, ladder: Ladder, pressure: Callable[[], float]) -> None:
        self._ladder = ladder
        self._pressure = pressure
        self._control = LoadControl()
        self._level = 0

    def level(self, now: float) -> int:
        """The level in force. May be read from any thread."""
        return self._control.level(now)

    def update(self, now: float) -> None:
        """Look at the pressure; the level then holds until the next time."""
        self._level = self._control.update(self._pressure(), now)

    def idle(self, now: float) -> None:
        """Nothing waits, whatever is being read, decoded or written."""
        self._level = self._control.update(0.0, now)

    def threshold(self, stage: int, policy: Policy) -> float | None:
        """What the stage's threshold has given way to; None where it has not."""
        if self._level == 0 or not policy.follows_config or stage >= len(policy.thresholds):
            return None
        steps = self._ladder(policy.config_version, policy.thresholds)
        return steps[min(self._level, len(steps)) - 1][stage] if steps else None
