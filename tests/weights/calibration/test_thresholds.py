import numpy as np
import pytest

from weights.calibration.thresholds import exit_stages, shared_threshold, simulate

CONFIDENCE = np.array([[0.9, 0.5, 0.7, 0.2], [0.1, 0.8, 0.6, 0.3], [0.5, 0.5, 0.5, 0.5]])
CORRECT = np.array([[True, False, True, False], [True, True, False, False], [True, True, True, False]])
MACS = (1, 3, 10)


@pytest.mark.parametrize(
    ("thresholds", "stages"), [((0.7, 0.8), [0, 1, 0, 2]), ((0.0, 0.0), [0] * 4), ((1.1, 1.1), [2] * 4)]
)
def test_exit_stages_threshold_is_inclusive_and_last_exit_takes_the_rest(
    thresholds: tuple[float, ...], stages: list[int]
) -> None:
    assert exit_stages(CONFIDENCE, thresholds).tolist() == stages


def test_simulate_counts_accuracy_macs_and_shares() -> None:
    outcome = simulate(CONFIDENCE, CORRECT, MACS, (0.7, 0.8))
    assert outcome.accuracy == 0.75
    assert outcome.mean_macs == pytest.approx((1 + 3 + 1 + 10) / 4)
    assert outcome.exit_shares == (0.5, 0.25, 0.25)


def test_shared_threshold_is_the_cheapest_within_the_drop() -> None:
    thresholds = shared_threshold(CONFIDENCE, CORRECT, MACS, accuracy_drop=0.0)
    chosen = simulate(CONFIDENCE, CORRECT, MACS, thresholds)
    assert chosen.accuracy >= CORRECT[-1].mean()
    for candidate in np.arange(0, 1.02, 0.01):
        other = simulate(CONFIDENCE, CORRECT, MACS, (candidate, candidate))
        assert other.accuracy < CORRECT[-1].mean() or other.mean_macs >= chosen.mean_macs
