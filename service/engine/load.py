"""Load shedding: when thresholds are lowered, and by how many levels. Plain Python; the time is passed in."""

from collections.abc import Callable, Sequence

from service.engine.policy import Policy

Thresholds = tuple[float, ...]

Ladder = Callable[[int, Thresholds], Sequence[Thresholds]]
"""(version, thresholds of the configuration) -> thresholds for load levels 1, 2 … `NUM_LEVELS`, never higher than the
configuration's. The last one also holds for higher levels; an empty sequence lowers no threshold."""

NUM_LEVELS = 3

HIGH_WATER = 0.5
LOW_WATER = 0.25
RISE_AFTER_S = 0.1
FALL_AFTER_S = 2.0


class Shedding:
    """Lowers thresholds by a level from 0 to `NUM_LEVELS` that follows the pressure, quickly up and slowly down.

    Pressure is the share of permits taken; at 1 requests are refused. The level rises by one for every `RISE_AFTER_S`
    at or above the high-water mark, at most once per update, so that a level can take effect before the next. It falls
    by one for every `FALL_AFTER_S` at or below the low-water mark, also without updates. Between the marks it stays.
    Owned by the worker.

    Args:
        ladder: called for every image while the level is above 0, so it must be fast. By default none is lowered.
        pressure: the share of permits taken.
    """

    def __init__(self, ladder: Ladder = lambda *_: (), pressure: Callable[[], float] = lambda: 0.0) -> None:
        self._ladder = ladder
        self._pressure = pressure
        self._level = 0
        self._mark = 0  # 1 above the high-water mark, -1 below the low-water mark, 0 between them
        self._since = 0.0

    def level(self, now: float) -> int:
        """The current level. May be read from any thread."""
        return max(0, self._level - self._falls(now))

    def update(self, now: float) -> None:
        """Update the level from the pressure."""
        self._follow(self._pressure(), now)

    def idle(self, now: float) -> None:
        """Record that no task waits: pressure 0, even if permits are taken."""
        self._follow(0.0, now)

    def threshold(self, stage: int, policy: Policy) -> float | None:
        """The lowered threshold of a stage; None if it is not lowered."""
        if self._level == 0 or not policy.follows_config or stage >= len(policy.thresholds):
            return None
        steps = self._ladder(policy.config_version, policy.thresholds)
        return steps[min(self._level, len(steps)) - 1][stage] if steps else None

    def _follow(self, pressure: float, now: float) -> None:
        falls = self._falls(now)
        self._level = max(0, self._level - falls)
        self._since += falls * FALL_AFTER_S
        mark = int(pressure >= HIGH_WATER) - int(pressure <= LOW_WATER)
        if mark != self._mark:
            self._mark, self._since = mark, now
        elif mark > 0 and now - self._since >= RISE_AFTER_S:
            self._level, self._since = min(self._level + 1, NUM_LEVELS), now

    def _falls(self, now: float) -> int:
        return int((now - self._since) / FALL_AFTER_S) if self._mark < 0 else 0
