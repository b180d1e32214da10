"""Lowered thresholds for each load level, within a limit on the loss of accuracy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service.engine.load import NUM_LEVELS, Thresholds
from weights.calibration.solver import Solver
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import simulate

_ALWAYS_LEAVES = 2.0  # a confidence above every threshold
_REMEMBERED = 16


class ThresholdLadder:
    """Thresholds for each load level, from the calibration table; an engine's `Ladder`.

    Level `k` has the cheapest thresholds that lose at most `k / NUM_LEVELS` of the allowed accuracy. They are never
    higher than the configuration's thresholds, so that no image leaves later than without load shedding.

    Each configuration is solved once, in about 0.2 s, on a separate thread, so that the engine's worker does not wait.

    Args:
        accuracy_drop: allowed loss of accuracy on the table at the last level; 0.01 is one percentage point.
        walk_macs: MACs of the walk up to each stage, that stage included.
    """

    def __init__(self, table: CalibrationTable, walk_macs: tuple[int, ...], accuracy_drop: float) -> None:
        self._table = table
        self._walk_macs = walk_macs
        self._accuracy_drop = accuracy_drop
        # None while a solution is computed.
        self._steps: dict[Thresholds, tuple[Thresholds, ...] | None] = {}
        self._solvers = ThreadPoolExecutor(1, thread_name_prefix="shedding")

    def __call__(self, config_version: int, thresholds: Thresholds) -> tuple[Thresholds, ...]:
        """The thresholds of levels 1 to `NUM_LEVELS` for a configuration; empty until they are solved."""
        if thresholds not in self._steps:
            self._steps[thresholds] = None
            self._solvers.submit(self.prepare, thresholds)
        return self._steps.get(thresholds) or ()

    def prepare(self, thresholds: Thresholds) -> tuple[Thresholds, ...]:
        """Solve the levels for a configuration with these thresholds now."""
        confidence_EN, correct_EN = self._table.confidence_EN, self._table.correct_EN
        expected = simulate(confidence_EN, correct_EN, self._walk_macs, thresholds).accuracy
        # Images that leave by the configuration's thresholds leave by any, so the solver can only lower thresholds.
        bound_EN = confidence_EN.copy()
        bound_EN[:-1][confidence_EN[:-1] >= np.asarray(thresholds)[:, None]] = _ALWAYS_LEAVES
        solver = Solver(bound_EN, correct_EN, self._walk_macs, include=[thresholds])
        steps = []
        for level in range(1, NUM_LEVELS + 1):
            solved = solver.for_accuracy(expected - self._accuracy_drop * level / NUM_LEVELS).thresholds
            steps.append(tuple(map(min, thresholds, solved)))
        if len(self._steps) > _REMEMBERED:
            self._steps.clear()
        self._steps[thresholds] = tuple(steps)
        return tuple(steps)
