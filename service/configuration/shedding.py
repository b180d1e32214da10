"""Which thresholds to fall back to under load, within a bound on the accuracy it costs."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service.engine.load import NUM_LEVELS, Thresholds
from weights.calibration.solver import Solver
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import simulate

_ALWAYS_LEAVES = 2.0
"""In place of a confidence: above every threshold, also those that no real confidence reaches."""

_REMEMBERED = 16


class ThresholdLadder:
    """Thresholds for each load level, from the calibration table; an engine's `Ladder`.

    Level `k` may cost `k / NUM_LEVELS` of the drop, and is the cheapest that does: never higher than the
    configuration's thresholds, so that whoever leaves under load leaves no later than without.

    Each configuration is solved once, which takes a tenth of a second or two: on a thread of its own when it is first
    asked for, since the worker asks.

    Args:
        accuracy_drop: accuracy on the table that the last level may lie below the configuration's; 0.01 is a point.
        walk_macs: MACs of the walk up to each stage, that stage included.
    """

    def __init__(self, table: CalibrationTable, walk_macs: tuple[int, ...], accuracy_drop: float) -> None:
        self._table = table
        self._walk_macs = walk_macs
        self._accuracy_drop = accuracy_drop
        # None while it is being solved.
        self._steps: dict[Thresholds, tuple[Thresholds, ...] | None] = {}
        self._solvers = ThreadPoolExecutor(1, thread_name_prefix="shedding")

    def __call__(self, config_version: int, thresholds: Thresholds) -> tuple[Thresholds, ...]:
        """The thresholds of levels 1 to `NUM_LEVELS` for a configuration with these; none until they are solved."""
        if thresholds not in self._steps:
            self._steps[thresholds] = None
            self._solvers.submit(self.prepare, thresholds)
        return self._steps.get(thresholds) or ()

    def prepare(self, thresholds: Thresholds) -> tuple[Thresholds, ...]:
        """Solve now what a configuration with these thresholds will be asked for."""
        steps = self._solved(thresholds)
        if len(self._steps) > _REMEMBERED:
            self._steps.clear()
        self._steps[thresholds] = steps
        return steps

    def _solved(self, thresholds: Thresholds) -> tuple[Thresholds, ...]:
        confidence_EN, correct_EN = self._table.confidence_EN, self._table.correct_EN
        expected = simulate(confidence_EN, correct_EN, self._walk_macs, thresholds).accuracy
        # Whoever leaves by the configuration's thresholds is made to leave by any: so the solver can only lower them.
        leaves_EN = confidence_EN[:-1] >= np.asarray(thresholds)[:, None]
        bound_EN = confidence_EN.copy()
        bound_EN[:-1][leaves_EN] = _ALWAYS_LEAVES
        solver = Solver(bound_EN, correct_EN, self._walk_macs, include=[thresholds])
        floors = [expected - self._accuracy_drop * level / NUM_LEVELS for level in range(1, NUM_LEVELS + 1)]
        solutions = [solver.for_accuracy(floor).thresholds for floor in floors]
        return tuple(
            tuple(min(own, lowered) for own, lowered in zip(thresholds, solution, strict=True))
            for solution in solutions
        )
