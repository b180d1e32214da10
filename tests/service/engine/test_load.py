from itertools import pairwise

import pytest
from engine_fakes import policy

from service.engine.load import FALL_AFTER_S, HIGH_WATER, LOW_WATER, NUM_LEVELS, RISE_AFTER_S, LoadControl, Shedding

BETWEEN = (HIGH_WATER + LOW_WATER) / 2


def _levels(control: LoadControl, *updates: tuple[float, float]) -> list[int]:
    return [control.update(pressure, now) for pressure, now in updates]


@pytest.mark.parametrize("gap", [1, 100])
def test_update_pressure_stays_high_rises_a_level_at_a_time_to_the_last(gap: int) -> None:
    times = [step * gap * RISE_AFTER_S for step in range(NUM_LEVELS + 3)]
    assert _levels(LoadControl(), *((HIGH_WATER, now) for now in times)) == [0, 1, 2, 3, 3, 3]


def test_update_peak_shorter_than_the_delay_changes_nothing() -> None:
    peaks = [(1.0 if step % 2 else BETWEEN, step * RISE_AFTER_S) for step in range(50)]
    assert set(_levels(LoadControl(), *peaks)) == {0}


@pytest.fixture
def raised() -> LoadControl:
    """At level 2, from time 0 on."""
    control = LoadControl()
    assert _levels(control, (1.0, -2 * RISE_AFTER_S), (1.0, -RISE_AFTER_S), (1.0, 0.0)) == [0, 1, 2]
    return control


def test_update_pressure_stays_low_falls_slowly_and_between_the_marks_it_stays(raised: LoadControl) -> None:
    assert _levels(raised, (BETWEEN, 1.0), (BETWEEN, 1000.0)) == [2, 2]
    steps = [(LOW_WATER, 1000.1 + share * FALL_AFTER_S) for share in (0, 0.9, 1.01, 1.9, 2.01, 9.0)]
    assert _levels(raised, *steps) == [2, 2, 1, 1, 0, 0]


def test_level_falls_while_nobody_updates(raised: LoadControl) -> None:
    raised.update(0.0, 1.0)
    assert [raised.level(1.0 + share * FALL_AFTER_S) for share in (0, 1, 2, 50)] == [2, 1, 0, 0]
    assert raised.update(1.0, 1.0 + FALL_AFTER_S) == 1


def test_update_pressure_to_and_fro_changes_direction_no_faster_than_it_may_fall() -> None:
    control, levels = LoadControl(), list[int]()
    period_s, step_s = 0.5, 0.01
    for step in range(3000):
        now = step * step_s
        levels.append(control.update(1.0 if now % period_s < period_s / 2 else 0.0, now))
    falls = sum(later < earlier for earlier, later in pairwise(levels))
    assert falls == 0
    assert levels[-1] == NUM_LEVELS


STEPS = ((0.4, 0.4, 0.4), (0.3, 0.3, 0.3))


def _shedding(level: int, steps: tuple[tuple[float, ...], ...] = STEPS) -> Shedding:
    def ladder(version: int, thresholds: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
        assert (version, thresholds) == (1, (0.5, 0.5, 0.5))
        return steps

    shedding = Shedding(ladder, lambda: 1.0)
    for step in range(level + 1):
        shedding.update(step * RISE_AFTER_S)
    return shedding


@pytest.mark.parametrize(("level", "threshold"), [(0, None), (1, 0.4), (2, 0.3), (3, 0.3)])
def test_threshold_is_the_levels_step_of_the_ladder(level: int, threshold: float | None) -> None:
    assert _shedding(level).threshold(1, policy()) == threshold


def test_threshold_of_a_request_with_its_own_or_at_the_last_stage_or_without_a_ladder_stays() -> None:
    assert _shedding(2).threshold(1, policy(follows_config=False)) is None
    assert _shedding(2).threshold(3, policy()) is None
    assert _shedding(2, steps=()).threshold(1, policy()) is None


def test_idle_lets_the_level_fall_whatever_the_pressure() -> None:
    shedding = _shedding(1)
    shedding.idle(1.0)
    assert (shedding.level(1.0), shedding.level(1.0 + FALL_AFTER_S)) == (1, 0)
