"""Solves targets for thresholds, and predicts the outcome of thresholds, with the calibration table."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

from service.engine.operating import Target
from service.errors import InvalidParameterError
from weights.calibration.solver import InfeasibleTargetError, Solution, Solver
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import Outcome, simulate

_MAX_CURVE_POINTS = 64


class Forecast:
    """Predictions from a calibration table. Thread-safe.

    Args:
        table: None for a model without one.
    """

    def __init__(self, table: CalibrationTable | None, stage_macs: tuple[int, ...], baseline_macs: int) -> None:
        self._table = table
        self._walk_macs = tuple(accumulate(stage_macs))
        self._baseline_macs = baseline_macs

    def expected(self, thresholds: tuple[float, ...]) -> Outcome | None:
        """Expected accuracy, mean MACs and exit shares; None without a calibration table."""
        table = self._table
        return None if table is None else simulate(table.confidence_EN, table.correct_EN, self._walk_macs, thresholds)

    @property
    def exit_accuracies(self) -> tuple[float, ...]:
        """For each exit, the accuracy if all images left there; empty without a calibration table."""
        return () if self._table is None else tuple(self._table.correct_EN.mean(axis=1).tolist())

    @cached_property
    def curve(self) -> Sequence[Solution]:
        """The most accurate thresholds for a range of costs, the cheapest first; empty without a calibration table."""
        return () if self._table is None else self._solver.frontier(_MAX_CURVE_POINTS)

    def solve(self, target: Target) -> tuple[float, ...]:
        """The best thresholds for a target. The first call builds the solver, in some tens of milliseconds.

        Raises:
            InvalidParameterError: no thresholds meet it, or there is no calibration table.
        """
        solver = self._solver
        try:
            match target.kind:
                case "mean_macs":
                    return solver.for_macs(target.value).thresholds
                case "fraction":
                    return solver.for_macs(target.value * self._baseline_macs).thresholds
                case "accuracy":
                    return solver.for_accuracy(target.value).thresholds
                case "accuracy_drop":
                    return solver.for_accuracy_drop(target.value).thresholds
        except InfeasibleTargetError as error:
            raise InvalidParameterError(f"target {target.kind} {target.value:g} cannot be met: {error}") from error

    @cached_property
    def _solver(self) -> Solver:
        # Takes some tens of milliseconds. Two threads that come first at once both build one.
        if self._table is None:
            raise InvalidParameterError("the model has no calibration table to solve a target with; see dvt calibrate")
        return Solver(self._table.confidence_EN, self._table.correct_EN, self._walk_macs)
