"""Thresholds under load, on a table of confidences and of what was right."""

import threading
from typing import Any

import numpy as np
import pytest
from waiting import eventually

from service.configuration import shedding
from service.configuration.shedding import ThresholdLadder
from service.engine.load import NUM_LEVELS
from weights.calibration.solver import Solver
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import exit_stages, simulate

WALK_MACS = (1, 3, 7, 15)


@pytest.fixture(scope="module")
def table() -> CalibrationTable:
    """Later exits are right more often, and confidence says how often."""
    rng = np.random.default_rng(0)
    difficulty_N = rng.uniform(size=500)
    confidence_EN = np.clip(1 - difficulty_N * np.array([[0.9], [0.7], [0.5], [0.4]]), 0, 1).astype(np.float32)
    return CalibrationTable(confidence_EN, rng.uniform(size=(4, 500)) < confidence_EN)


@pytest.mark.parametrize(
    ("thresholds", "drop"), [((0.95, 0.4, 1.01), 0.003), ((2.0, 2.0, 2.0), 0.03), ((0.0, 0.0, 0.0), 0.03)]
)
def test_ladder_every_level_keeps_its_accuracy_costs_no_more_than_the_one_before_and_delays_nobody(
    table: CalibrationTable, thresholds: tuple[float, ...], drop: float
) -> None:
    steps = ThresholdLadder(table, WALK_MACS, drop).prepare(thresholds)
    outcomes = [simulate(table.confidence_EN, table.correct_EN, WALK_MACS, step) for step in (thresholds, *steps)]

    assert len(steps) == NUM_LEVELS
    for level, outcome in enumerate(outcomes):
        assert outcome.accuracy >= outcomes[0].accuracy - drop * level / NUM_LEVELS - 1e-9
    macs = [outcome.mean_macs for outcome in outcomes]
    assert macs == sorted(macs, reverse=True)
    assert macs[-1] < macs[0] or thresholds == (0.0, 0.0, 0.0)
    usual_N = exit_stages(table.confidence_EN, thresholds)
    for step in steps:
        assert all(lowered <= own for lowered, own in zip(step, thresholds, strict=True))
        assert (exit_stages(table.confidence_EN, step) <= usual_N).all()


def test_ladder_without_a_bound_is_the_first_stage_alone(table: CalibrationTable) -> None:
    step = ThresholdLadder(table, WALK_MACS, 1.0).prepare((0.9, 0.9, 0.9))[-1]

    assert (exit_stages(table.confidence_EN, step) == 0).all()


def test_ladder_unknown_configuration_is_solved_once_and_not_waited_for(
    table: CalibrationTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_solve, solved = threading.Event(), []

    def solver(*args: Any, **options: Any) -> Solver:
        assert may_solve.wait(30)
        solved.append(options["include"])
        return Solver(*args, **options)

    monkeypatch.setattr(shedding, "Solver", solver)
    ladder, configurations = ThresholdLadder(table, WALK_MACS, 0.01), [(0.9, 0.9, 0.9), (0.8, 0.9, 0.9)]
    for version in range(3):
        assert [ladder(version, thresholds) for thresholds in configurations] == [(), ()]
    may_solve.set()
    for thresholds in configurations:
        eventually(lambda thresholds=thresholds: len(ladder(3, thresholds)) == NUM_LEVELS)

    assert solved == [[thresholds] for thresholds in configurations]


def test_ladder_remembers_the_last_configurations_only(table: CalibrationTable) -> None:
    ladder = ThresholdLadder(table, WALK_MACS, 1.0)
    for number in range(40):
        ladder.prepare((number / 100,) * 3)

    assert len(ladder._steps) <= 17
