"""Temperatures, calibration error, and the calibration table from which any thresholds can be judged.

Shapes: E exits, N images, K classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from weights.calibration.thresholds import Bools, Floats

_BINS = 15
_CHANCE_DRAWS = 200
_LOG_TEMPERATURE_SPREAD = 0.7
_TEMPERATURE_RANGE = (0.05, 20.0)


class CalibrationError(ValueError):
    """A calibration table that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """Confidence and correctness of every exit for each held-out image.

    Attributes:
        confidence_EN: largest softmax probability after the exit's temperature, float32.
        correct_EN: bool.
    """

    confidence_EN: Floats
    correct_EN: Bools

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        confidence = np.ascontiguousarray(self.confidence_EN, dtype=np.float32)
        return save({"confidence": confidence, "correct": self.correct_EN.astype(np.uint8)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "CalibrationTable":
        """Read the result of `to_bytes`, unchecked."""
        tensors = load(data)
        return cls(tensors["confidence"], tensors["correct"].astype(bool))

    @classmethod
    def load(cls, path: Path, num_exits: int) -> "CalibrationTable":
        """Read what `save` wrote.

        Raises:
            CalibrationError: when the file holds anything else, or another number of exits.
        """
        try:
            table = cls.from_bytes(path.read_bytes())
        except (OSError, SafetensorError, KeyError) as error:
            raise CalibrationError(f"{path} is not a calibration table: {error}") from error
        confidence, correct = table.confidence_EN, table.correct_EN
        if confidence.ndim != 2 or confidence.shape != correct.shape or len(confidence) != num_exits:
            raise CalibrationError(
                f"{path} holds confidences {confidence.shape} and correctness {correct.shape}, "
                f"expected {num_exits} exits"
            )
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise CalibrationError(f"{path} holds confidences outside [0, 1]")
        return table


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    probs: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probs


def calibration_table(
    logits_ENK: Floats, labels_N: npt.NDArray[np.int64], temperatures: tuple[float, ...]
) -> CalibrationTable:
    """The table of logits on held-out images.

    Shape: logits [E, N, K], labels [N]
    """
    scaled = logits_ENK / np.asarray(temperatures)[:, None, None]
    return CalibrationTable(softmax(scaled).max(axis=-1).astype(np.float32), logits_ENK.argmax(axis=-1) == labels_N)


def negative_log_likelihood(logits_NK: Floats, labels_N: npt.NDArray[np.int64], temperature: float) -> float:
    """Mean over the images."""
    scaled = logits_NK.astype(np.float64) / temperature
    peak = scaled.max(axis=-1)
    log_sum = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=-1))
    return float((log_sum - scaled[np.arange(len(labels_N)), labels_N]).mean())


def fit_temperature(logits_NK: Floats, labels_N: npt.NDArray[np.int64]) -> float:
    """The most probable temperature given held-out images.

    Golden-section search on the logarithm of the temperature; the posterior has a single maximum there. The prior is
    normal around log 1: when the few images are all right, the likelihood alone would choose a temperature of 0.

    Source: temperature scaling of arXiv 1706.04599, section 4.2; the prior is our own.
    """

    def loss(log_temperature: float) -> float:
        likelihood = negative_log_likelihood(logits_NK, labels_N, float(np.exp(log_temperature)))
        return likelihood + (log_temperature / _LOG_TEMPERATURE_SPREAD) ** 2 / 2 / len(labels_N)

    low, high = np.log(_TEMPERATURE_RANGE)
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-4:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))


def expected_calibration_error(confidence_N: Floats, correct_N: Bools) -> float:
    """Mean distance between confidence and accuracy over 15 bins of equal width, weighted by their images.

    Source: arXiv 1706.04599, section 2.
    """
    bins = np.minimum((confidence_N * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=confidence_N.astype(np.float64) - correct_N, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidence_N))


def calibration_error_by_chance(confidence_N: Floats) -> float:
    """The mean of `expected_calibration_error` when every confidence is exactly right.

    It is not zero: with finitely many images, the accuracy of a bin differs from its expectation. A measured error
    near this value is no evidence of miscalibration.
    """
    generator = np.random.default_rng(0)
    errors = [
        expected_calibration_error(confidence_N, generator.random(len(confidence_N)) < confidence_N)
        for _ in range(_CHANCE_DRAWS)
    ]
    return float(np.mean(errors))
