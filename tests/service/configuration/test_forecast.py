import numpy as np
import pytest

from service.configuration.forecast import Forecast
from service.engine.operating import Target
from service.errors import InvalidParameterError
from weights.calibration.table import CalibrationTable

STAGE_MACS = (100, 300, 600)
BASELINE_MACS = 2000


@pytest.fixture
def forecast() -> Forecast:
    """Ten images: exit 0 is right for five and knows which, exit 1 for eight, exit 2 for all."""
    confidence = np.array([[0.9] * 5 + [0.3] * 5, [0.9] * 8 + [0.3] * 2, [0.9] * 10], dtype=np.float32)
    correct = np.array([[True] * 5 + [False] * 5, [True] * 8 + [False] * 2, [True] * 10])
    return Forecast(CalibrationTable(confidence, correct), STAGE_MACS, BASELINE_MACS)


@pytest.mark.parametrize(
    ("target", "accuracy", "mean_macs"),
    [
        (Target("mean_macs", 399), 1.0, 370),
        (Target("fraction", 0.05), 0.5, 100),
        (Target("accuracy", 0.8), 0.8, 250),
        (Target("accuracy_drop", 0.5), 0.5, 100),
    ],
)
def test_solve_meets_each_kind_of_target(forecast, target, accuracy, mean_macs) -> None:
    outcome = forecast.expected(forecast.solve(target))

    assert (outcome.accuracy, outcome.mean_macs) == pytest.approx((accuracy, mean_macs))


def test_solve_what_cannot_be_met_raises_naming_the_limit(forecast) -> None:
    with pytest.raises(InvalidParameterError, match=r"target fraction 0\.01 cannot be met: .* below the 100 of"):
        forecast.solve(Target("fraction", 0.01))


def test_curve_is_what_each_cost_can_buy_at_most(forecast) -> None:
    points = [(point.outcome.mean_macs, point.outcome.accuracy) for point in forecast.curve]

    assert points[0] == (100, 0.5)
    assert points[-1] == pytest.approx((370, 1.0))
    for macs, accuracy in points:
        solved = forecast.expected(forecast.solve(Target("mean_macs", macs)))
        assert (solved.mean_macs, solved.accuracy) == (macs, accuracy)
    assert forecast.exit_accuracies == (0.5, 0.8, 1.0)


def test_forecast_without_a_table_expects_nothing_and_solves_nothing() -> None:
    forecast = Forecast(None, STAGE_MACS, BASELINE_MACS)

    assert forecast.expected((0.5, 0.5)) is None
    assert (forecast.curve, forecast.exit_accuracies) == ((), ())
    with pytest.raises(InvalidParameterError, match="no calibration table"):
        forecast.solve(Target("accuracy", 0.5))
