import numpy as np
import pytest
from parity import KEPT
from safetensors.numpy import load_file

from weights.calibration.authors_thresholds import BUDGETS, authors_thresholds
from weights.calibration.thresholds import exit_stages, simulate

GMACS = np.array([1.1429, 3.6431, 8.8006], dtype=np.float32)
RUNS = [("solve_eval", "solve", "eval"), ("solve_solve",) + 2 * ("solve",), 3 * ("ties",), 3 * ("tiny",)]


def _confidence_and_correct(tables: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    if f"{name}.softmax" in tables:
        softmax = tables[f"{name}.softmax"]
        return softmax.max(axis=-1), softmax.argmax(axis=-1) == tables[f"{name}.targets"]
    return tables[f"{name}.confidence"], tables[f"{name}.correct"].astype(bool)


@pytest.mark.parametrize(("name", "solved_on", "judged_on"), RUNS)
def test_authors_thresholds_equal_published_tables_exactly(name: str, solved_on: str, judged_on: str) -> None:
    tables = load_file(KEPT / "thresholds.safetensors")
    confidence, _ = _confidence_and_correct(tables, solved_on)
    judged, correct = _confidence_and_correct(tables, judged_on)
    for row, budget in enumerate(BUDGETS):
        thresholds = authors_thresholds(confidence, budget)
        assert thresholds == tuple(tables[f"{name}.thresholds"][row, :2].tolist())
        outcome = simulate(judged, correct, (1, 1, 1), thresholds)
        right = round(outcome.accuracy * judged.shape[1])
        assert 100 * right / judged.shape[1] == tables[f"{name}.accuracy"][row]
        assert _published_cost(judged, thresholds) == tables[f"{name}.gflops"][row]
        assert np.array_equal(np.float32(outcome.exit_shares), tables[f"{name}.exit_fraction"][row])


def _published_cost(confidence: np.ndarray, thresholds: tuple[float, ...]) -> float:
    """Summed in float32 like the tables."""
    counts = np.bincount(exit_stages(confidence, thresholds), minlength=3).astype(np.float32)
    cost = np.float32(0)
    for share, gmacs in zip(counts / np.float32(confidence.shape[1]), GMACS, strict=True):
        cost = np.float32(cost + share * gmacs)
    return float(cost)


@pytest.mark.parametrize("budget", [0.0, float("nan")])
def test_authors_thresholds_budget_not_positive_raises(budget: float) -> None:
    with pytest.raises(ValueError, match="budget must be above 0"):
        authors_thresholds(np.ones((3, 4)), budget)
