import pytest
from engine_fakes import policy

from service.engine.load import FALL_AFTER_S, HIGH_WATER, LOW_WATER, NUM_LEVELS, RISE_AFTER_S, Shedding

BETWEEN = (HIGH_WATER + LOW_WATER) / 2
STEPS = ((0.4, 0.4, 0.4), (0.3, 0.3, 0.3))


class Pressed(Shedding):
    """Under the pressure a test says."""

    def __init__(self, steps=STEPS):
        super().__init__(self._steps, lambda: self.pressure)
        self.pressure, self.steps = 0.0, steps

    def _steps(self, version, thresholds):
        assert (version, thresholds) == (1, (0.5, 0.5, 0.5))
        return self.steps

    def levels(self, *updates):
        """The level after each of these updates, (pressure, now)."""
        found = []
        for self.pressure, now in updates:
            self.update(now)
            found.append(self.level(now))
        return found


def _raised(level, steps=STEPS):
    """At this level, from time 0 on."""
    shedding = Pressed(steps)
    assert shedding.levels(*((1.0, (step - level) * RISE_AFTER_S) for step in range(level + 1)))[-1] == level
    return shedding


@pytest.mark.parametrize("gap", [1, 100])
def test_update_pressure_stays_high_rises_a_level_at_a_time_to_the_last(gap):
    times = [step * gap * RISE_AFTER_S for step in range(NUM_LEVELS + 3)]
    assert Pressed().levels(*((HIGH_WATER, now) for now in times)) == [0, 1, 2, 3, 3, 3]


def test_update_peak_shorter_than_the_delay_changes_nothing():
    peaks = [(1.0 if step % 2 else BETWEEN, step * RISE_AFTER_S) for step in range(50)]
    assert set(Pressed().levels(*peaks)) == {0}


def test_update_pressure_stays_low_falls_slowly_and_between_the_marks_it_stays():
    shedding = _raised(2)
    assert shedding.levels((BETWEEN, 1.0), (BETWEEN, 1000.0)) == [2, 2]
    steps = [(LOW_WATER, 1000.1 + share * FALL_AFTER_S) for share in (0, 0.9, 1.01, 1.9, 2.01, 9.0)]
    assert shedding.levels(*steps) == [2, 2, 1, 1, 0, 0]


def test_level_falls_while_nobody_updates():
    shedding = _raised(2)
    shedding.levels((0.0, 1.0))
    assert [shedding.level(1.0 + share * FALL_AFTER_S) for share in (0, 1, 2, 50)] == [2, 1, 0, 0]
    assert shedding.levels((1.0, 1.0 + FALL_AFTER_S)) == [1]


def test_update_pressure_to_and_fro_does_not_fall_before_it_may():
    waves = ((float(step % 50 < 25), step * 0.01) for step in range(1000))
    levels = Pressed().levels(*waves)
    assert levels == sorted(levels)
    assert levels[-1] == NUM_LEVELS


def test_idle_lets_the_level_fall_whatever_the_pressure():
    shedding = _raised(1)
    shedding.idle(1.0)
    assert (shedding.level(1.0), shedding.level(1.0 + FALL_AFTER_S)) == (1, 0)


@pytest.mark.parametrize(("level", "threshold"), [(0, None), (1, 0.4), (2, 0.3), (3, 0.3)])
def test_threshold_is_the_levels_step_of_the_ladder(level, threshold):
    assert _raised(level).threshold(1, policy()) == threshold


def test_threshold_of_a_request_with_its_own_or_at_the_last_stage_or_without_a_ladder_stays():
    assert _raised(2).threshold(1, policy(follows_config=False)) is None
    assert _raised(2).threshold(3, policy()) is None
    assert _raised(2, steps=()).threshold(1, policy()) is None
