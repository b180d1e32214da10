"""The thresholds to plan for: the model's, given ones, or those that meet a target on the calibration table."""

from models.macs import baseline_macs, stage_macs
from service.configuration.forecast import Forecast
from service.engine.operating import Target, parse_thresholds
from service.errors import InvalidParameterError
from weights.calibration.table import CalibrationTable
from weights.store import StoredModel


def calibration_of(stored: StoredModel) -> CalibrationTable:
    """The table that predicts the exits of images.

    Raises:
        InvalidParameterError: the model has none.
    """
    if stored.calibration is None:
        raise InvalidParameterError(f"{stored.manifest.name} has no calibration table to take exit shares from")
    return stored.calibration


def chosen_thresholds(stored: StoredModel, text: str | None) -> tuple[float, ...]:
    """The thresholds in a user's text; the model's own for None.

    Raises:
        InvalidParameterError: when they do not fit the model.
    """
    if text is None:
        return stored.manifest.thresholds
    try:
        numbers = [float(item) for item in text.split(",")]
    except ValueError as error:
        raise InvalidParameterError(f"thresholds: {text[:100]!r} is not a number or numbers with commas") from error
    return parse_thresholds(numbers if "," in text else numbers[0], stored.manifest.architecture.num_stages)


def thresholds_for(
    stored: StoredModel, *, text: str | None = None, mean_macs: float | None = None, accuracy: float | None = None
) -> tuple[float, ...]:
    """The thresholds given by at most one of the arguments; the model's own by default.

    Args:
        text: one number, or one per exit but the last.
        mean_macs: choose the best accuracy for this mean of MACs per image.
        accuracy: choose the fewest MACs that reach it, from 0 to 1.

    Raises:
        InvalidParameterError: they do not fit the model, exclude each other, or cannot be met.
    """
    if sum(each is not None for each in (text, mean_macs, accuracy)) > 1:
        raise InvalidParameterError("thresholds, target mean MACs and target accuracy exclude each other")
    if mean_macs is not None:
        target = Target("mean_macs", mean_macs)
    elif accuracy is not None:
        target = Target("accuracy", accuracy)
    else:
        return chosen_thresholds(stored, text)
    config = stored.manifest.architecture
    macs = tuple(stage.total for stage in stage_macs(config))
    return Forecast(calibration_of(stored), macs, baseline_macs(config)).solve(target)
