"""The best thresholds for a compute budget or an accuracy, searched exactly over a grid of candidates.

Shapes: E exits, N images, Q candidate thresholds of an exit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from weights.calibration.thresholds import Bools, Floats, Outcome, simulate

_ABOVE_ANY_CONFIDENCE = 1.01
"""A threshold above every confidence."""

_MAX_CELLS = 200_000


class InfeasibleTargetError(ValueError):
    """No thresholds reach the target; the text says what can be reached."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Thresholds, and their outcome on the images they were solved on."""

    thresholds: tuple[float, ...]
    outcome: Outcome


class Solver:
    """Evaluates every combination of candidate thresholds once; targets are then looked up.

    Candidates are quantiles of each exit's confidences, so that neighbours differ by equal shares of images, and
    0 (always) and above 1 (never). With 10,000 images the E - 1 dimensional histogram behind it is built in some
    tens of milliseconds: an image that leaves at exit k does so for all thresholds below its confidence there, so
    counts over all combinations are cumulative sums.

    Args:
        confidence_EN: largest softmax probability of each exit for each image.
        correct_EN: whether that exit was right.
        cumulative_macs: MACs of a walk that ends at each exit, [E].
        include: threshold sets considered in addition to the grid.
    """

    def __init__(
        self,
        confidence_EN: Floats,
        correct_EN: Bools,
        cumulative_macs: tuple[int, ...],
        include: Iterable[tuple[float, ...]] = (),
    ) -> None:
        if confidence_EN.shape != correct_EN.shape or len(confidence_EN) != len(cumulative_macs):
            raise ValueError(
                f"confidences {confidence_EN.shape}, correctness {correct_EN.shape} and "
                f"{len(cumulative_macs)} exits do not belong together"
            )
        if not np.isfinite(confidence_EN).all():
            raise ValueError("confidences must be finite")
        self._confidence_EN = confidence_EN
        self._correct_EN = correct_EN
        self._cumulative_macs = cumulative_macs
        self._num_images = confidence_EN.shape[1]
        per_exit = _candidates_per_exit(len(confidence_EN))
        self._candidates = [_candidates(confidence_N, per_exit) for confidence_N in confidence_EN[:-1]]
        self._right, self._macs = self._evaluate()
        self._included = [self._simulated(thresholds) for thresholds in include]

    @property
    def full_accuracy(self) -> float:
        """Accuracy of the whole cascade, without early exits."""
        return float(self._correct_EN[-1].mean())

    def for_macs(self, mean_macs: float) -> Solution:
        """The best accuracy at no more than `mean_macs` per image; the cheapest among equals.

        Raises:
            InfeasibleTargetError: when even stage 0 alone costs more.
        """
        slack = 1 + 1e-12  # a mean over many images has a rounding error
        affordable = self._macs <= mean_macs * self._num_images * slack
        if not affordable.any():
            raise InfeasibleTargetError(
                f"mean_macs {mean_macs:.0f} is below the {self._cumulative_macs[0]} of the first stage alone"
            )
        right = np.where(affordable, self._right, -1.0)
        found = [self._solution(np.where(right == right.max(), self._macs, np.inf))]
        found += [each for each in self._included if each.outcome.mean_macs <= mean_macs * slack]
        return max(found, key=lambda each: (each.outcome.accuracy, -each.outcome.mean_macs))

    def for_accuracy(self, accuracy: float) -> Solution:
        """The fewest mean MACs that reach `accuracy`; the most accurate among equals.

        Raises:
            InfeasibleTargetError: when no combination does.
        """
        found = [each for each in self._included if each.outcome.accuracy >= accuracy - 1e-12]
        reached = self._right >= accuracy * self._num_images - 1e-9
        if reached.any():
            found.append(self._solution(np.where(reached, self._macs - self._right * 1e-6, np.inf)))
        if not found:
            best = float(self._right.max()) / self._num_images
            raise InfeasibleTargetError(f"accuracy {accuracy:.4f} is above the {best:.4f} that can be reached")
        return min(found, key=lambda each: (each.outcome.mean_macs, -each.outcome.accuracy))

    def for_accuracy_drop(self, drop: float) -> Solution:
        """The fewest mean MACs within `drop` (0.005 is half a point) of the full cascade's accuracy.

        Raises:
            InfeasibleTargetError: for a negative drop that nothing reaches.
        """
        return self.for_accuracy(self.full_accuracy - drop)

    def frontier(self, max_points: int) -> list[Solution]:
        """The Pareto frontier of accuracy and MACs, the cheapest first; evenly thinned to `max_points`."""
        cheapest_first = np.lexsort((-self._right.ravel(), self._macs.ravel()))
        right = self._right.ravel()[cheapest_first]
        better_than_all_before = np.concatenate([[True], right[1:] > np.maximum.accumulate(right)[:-1]])
        places = cheapest_first[better_than_all_before]
        kept = np.unique(np.linspace(0, len(places) - 1, max_points).round().astype(np.int64))
        return [self._at(int(place)) for place in places[kept]]

    def _solution(self, cost: npt.NDArray[np.float64]) -> Solution:
        return self._at(int(cost.argmin()))

    def _at(self, place: int) -> Solution:
        indices = np.unravel_index(place, self._right.shape)
        return self._simulated(
            tuple(float(candidates[index]) for candidates, index in zip(self._candidates, indices, strict=True))
        )

    def _simulated(self, thresholds: tuple[float, ...]) -> Solution:
        outcome = simulate(self._confidence_EN, self._correct_EN, self._cumulative_macs, thresholds)
        return Solution(thresholds, outcome)

    def _evaluate(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Images answered right and MACs spent in total, for every combination.

        An image with `rank` r at an exit leaves there for the candidates 0 .. r - 1 and stays for the others.

        Shape: -> two of [Q of exit 0, Q of exit 1, ...]
        """
        sizes = [len(candidates) for candidates in self._candidates]
        ranks = [
            np.searchsorted(candidates, confidence, side="right")
            for candidates, confidence in zip(self._candidates, self._confidence_EN[:-1], strict=True)
        ]
        right, macs = np.zeros(sizes), np.zeros(sizes)
        for exit_, cumulative in enumerate(self._cumulative_macs):
            # Images that stayed at all earlier exits: their ranks there are at most the candidate's index.
            weights = (self._correct_EN[exit_].astype(np.float64), np.full(self._num_images, float(cumulative)))
            for total, weight in zip((right, macs), weights, strict=True):
                total += _stayed_then_left(ranks, sizes, exit_, weight)
        return right, macs


def _stayed_then_left(
    ranks: list[npt.NDArray[np.int64]], sizes: list[int], exit_: int, weight: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Sum of `weight` over the images that leave at `exit_`, for every combination of candidates.

    Shape: -> [Q of exit 0, ..., Q of exit `exit_`, 1, ...], which broadcasts over the later exits
    """
    used = min(exit_ + 1, len(sizes))
    if used == 0:  # a single exit: no thresholds to combine
        return np.asarray(weight.sum())
    shape = [size + 1 for size in sizes[:used]]
    flat = np.ravel_multi_index([ranks[axis] for axis in range(used)], shape)
    table = np.bincount(flat, weights=weight, minlength=prod(shape)).astype(np.float64).reshape(shape)
    for axis in range(used):
        if axis == exit_:  # leaves here: rank above the candidate's index
            table = np.flip(np.flip(table, axis).cumsum(axis), axis).take(range(1, shape[axis]), axis)
        else:  # stayed: rank at most the candidate's index
            table = table.cumsum(axis).take(range(shape[axis] - 1), axis)
    return table.reshape(table.shape + (1,) * (len(sizes) - used))


def _candidates_per_exit(num_exits: int) -> int:
    return max(2, int(_MAX_CELLS ** (1 / max(1, num_exits - 1))))


def _candidates(confidence_N: Floats, count: int) -> npt.NDArray[np.float64]:
    """Ascending thresholds: always, quantiles of the confidences, never."""
    quantiles = np.quantile(confidence_N, np.linspace(0, 1, max(2, count - 2)), method="closest_observation")
    return np.unique(np.concatenate([[0.0], quantiles.astype(np.float64), [_ABOVE_ANY_CONFIDENCE]]))
