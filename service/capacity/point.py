"""Which thresholds to plan for: the model's, written ones, or those that reach a target on the calibration table."""

from itertools import accumulate

from models.macs import stage_macs
from service.capacity.workload import chosen_thresholds
from service.errors import InvalidParameterError
from weights.calibration.solver import InfeasibleTargetError, Solver
from weights.calibration.table import CalibrationTable
from weights.store import StoredModel


def calibration_of(stored: StoredModel) -> CalibrationTable:
    """The table that predicts where images leave.

    Raises:
        InvalidParameterError: the model has none.
    """
    if stored.calibration is None:
        raise InvalidParameterError(f"{stored.manifest.name} has no calibration table to take exit shares from")
    return stored.calibration


def thresholds_for(
    stored: StoredModel, *, text: str | None = None, mean_macs: float | None = None, accuracy: float | None = None
) -> tuple[float, ...]:
    """Thresholds from at most one of these; the model's own from none.

    Args:
        text: one number, or one per exit but the last.
        mean_macs: the best accuracy for so many an image.
        accuracy: the fewest MACs that reach it, from 0 to 1.

    Raises:
        InvalidParameterError: they do not fit the model, exclude each other, or nothing reaches them.
    """
    if sum(each is not None for each in (text, mean_macs, accuracy)) > 1:
        raise InvalidParameterError("thresholds, target mean MACs and target accuracy exclude each other")
    if mean_macs is None and accuracy is None:
        return chosen_thresholds(stored, text)
    table = calibration_of(stored)
    walk_macs = tuple(accumulate(stage.total for stage in stage_macs(stored.manifest.architecture)))
    solver = Solver(table.confidence_EN, table.correct_EN, walk_macs, include=[stored.manifest.thresholds])
    try:
        if mean_macs is not None:
            return solver.for_macs(mean_macs).thresholds
        assert accuracy is not None
        return solver.for_accuracy(accuracy).thresholds
    except InfeasibleTargetError as error:
        raise InvalidParameterError(str(error)) from error
