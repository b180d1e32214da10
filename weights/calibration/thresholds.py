"""The outcome of thresholds on held-out images, and the simplest method of choosing them.

Shapes: E exits, N images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a set of thresholds on a set of images.

    Attributes:
        accuracy: share of images answered right.
        mean_macs: MACs per image.
        exit_shares: share of images leaving at each exit, [E].
    """

    accuracy: float
    mean_macs: float
    exit_shares: tuple[float, ...]


def exit_stages(confidence_EN: Floats, thresholds: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """The stage each image leaves at: the first whose confidence reaches its threshold, else the last.

    Shape: [E, N] -> [N]
    """
    leaves = confidence_EN[:-1] >= np.asarray(thresholds)[:, None]
    leaves = np.concatenate([leaves, np.ones_like(confidence_EN[-1:], dtype=bool)])
    stages: npt.NDArray[np.int64] = leaves.argmax(axis=0)
    return stages


def simulate(
    confidence_EN: Floats, correct_EN: Bools, cumulative_macs: tuple[int, ...], thresholds: tuple[float, ...]
) -> Outcome:
    """Accuracy, mean MACs and exit shares of thresholds on held-out images.

    Args:
        cumulative_macs: MACs of a walk that ends at each exit, [E].
    """
    stages = exit_stages(confidence_EN, thresholds)
    shares = np.bincount(stages, minlength=len(confidence_EN)) / len(stages)
    correct = np.take_along_axis(correct_EN, stages[None], axis=0)
    return Outcome(float(correct.mean()), float(shares @ np.asarray(cumulative_macs)), tuple(shares.tolist()))


def shared_threshold(
    confidence_EN: Floats, correct_EN: Bools, cumulative_macs: tuple[int, ...], *, accuracy_drop: float
) -> tuple[float, ...]:
    """The cheapest single threshold for all exits that stays within `accuracy_drop` of the full cascade.

    Candidates are multiples of 0.01, so that one image does not decide the result.
    """
    exits = len(confidence_EN)
    floor = float(correct_EN[-1].mean()) - accuracy_drop
    best: tuple[float, tuple[float, ...]] | None = None
    for candidate in np.round(np.arange(0.0, 1.02, 0.01), 2):
        thresholds = (float(candidate),) * (exits - 1)
        outcome = simulate(confidence_EN, correct_EN, cumulative_macs, thresholds)
        if outcome.accuracy >= floor and (best is None or outcome.mean_macs < best[0]):
            best = (outcome.mean_macs, thresholds)
    assert best is not None, "a threshold above 1 is the full cascade itself"
    return best[1]
