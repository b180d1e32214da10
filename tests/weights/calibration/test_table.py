from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from weights.calibration.table import (
    CalibrationError,
    CalibrationTable,
    calibration_error_by_chance,
    calibration_table,
    expected_calibration_error,
    fit_temperature,
    softmax,
)


def _logits(count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is exactly right at temperature `sharpness`."""
    generator = np.random.default_rng(0)
    true_logits = generator.normal(scale=2.0, size=(count, 5))
    probs = softmax(true_logits)
    labels = np.array([generator.choice(5, p=row) for row in probs])
    return true_logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_fit_temperature_recovers_the_sharpness(sharpness: float) -> None:
    logits, labels = _logits(4_000, sharpness)
    assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.06)


def test_fit_temperature_of_a_handful_that_are_all_right_stays_near_one() -> None:
    logits = 3.0 * np.eye(4)
    assert 0.3 < fit_temperature(logits, np.arange(4)) < 1.0


def test_expected_calibration_error_equals_hand_computed_bins() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert expected_calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0.0


def test_softmax_survives_large_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(softmax(logits), torch.from_numpy(logits).softmax(dim=-1).numpy())


def test_calibration_table_survives_the_disk(tmp_path: Path) -> None:
    logits, labels = _logits(50, 1.0)
    table = calibration_table(np.stack([logits, 2 * logits]), labels, (1.0, 2.0))
    np.testing.assert_allclose(table.confidence_EN[0], table.confidence_EN[1])
    table.save(tmp_path / "calibration.safetensors")
    found = CalibrationTable.load(tmp_path / "calibration.safetensors", 2)
    assert np.array_equal(found.confidence_EN, table.confidence_EN)
    assert np.array_equal(found.correct_EN, table.correct_EN)


@pytest.mark.parametrize(
    ("confidence", "exits", "message"),
    [
        (np.full((2, 3), 0.5), 4, "expected 4 exits"),
        (np.full((2, 3), 1.5), 2, "outside"),
        (None, 4, "not a calibration table"),
    ],
)
def test_calibration_table_wrong_content_raises(
    tmp_path: Path, confidence: np.ndarray | None, exits: int, message: str
) -> None:
    path = tmp_path / "c.st"
    path.write_bytes(b"nothing")
    if confidence is not None:
        save_file({"confidence": confidence.astype(np.float32), "correct": np.zeros((2, 3), np.uint8)}, path)
    with pytest.raises(CalibrationError, match=message):
        CalibrationTable.load(path, exits)


def test_calibration_error_by_chance_is_that_of_right_confidences_and_none_without_doubt() -> None:
    generator = np.random.default_rng(3)
    confidence = generator.uniform(0.2, 1.0, 2000)
    right = [expected_calibration_error(confidence, generator.random(2000) < confidence) for _ in range(200)]
    assert calibration_error_by_chance(confidence) == pytest.approx(np.mean(right), rel=0.08)
    assert calibration_error_by_chance(confidence) == calibration_error_by_chance(confidence)
    assert calibration_error_by_chance(np.ones(50)) == 0.0
