"""The authors' method of choosing thresholds: a quantile of confidence per exit, for a given share of exits.

It does not use labels. It is the baseline for our solver.

Shapes: E exits, N images.
"""

import numpy as np

from weights.calibration.thresholds import Floats

NEVER_EXITS = 1e8
"""The threshold of an exit at which no image leaves, as in the authors' tables."""

BUDGETS = tuple(step / 20 for step in range(1, 60))
"""The budgets of the authors' tables, ascending in cost."""


def authors_thresholds(confidence_EN: Floats, budget: float) -> tuple[float, ...]:
    """Thresholds with which a share of images proportional to u^(k + 1) leaves at exit k; u is the budget.

    At each exit the r most confident of the remaining images leave; r is the exit's share of all images, rounded
    down. Ties with the last of them leave too. If the share is less than one image or more than remain, no image
    leaves.

    Args:
        confidence_EN: largest softmax probability of each exit for each image.
        budget: above 0; 1 gives all exits equal shares, a smaller value favours the first exits.

    Returns:
        One threshold per exit but the last; `NEVER_EXITS` where no image leaves.

    Raises:
        ValueError: when the budget is not above 0.

    Source: the budgeted batch classification of arXiv 2105.15075, by the rules of its published evaluation.
    """
    if not budget > 0:
        raise ValueError(f"budget must be above 0, got {budget}")
    exits, images = confidence_EN.shape
    # float32 as in the published tables, so that a share close to a whole number of images rounds as there.
    weights = np.exp(np.log(np.float32(budget)) * np.arange(1, exits + 1, dtype=np.float32))
    shares = weights / weights.sum()
    staying = np.ones(images, dtype=bool)
    thresholds = []
    for confidence_N, share in zip(confidence_EN[:-1], shares, strict=False):
        leaving = int(np.float32(images) * share)
        candidates = np.sort(confidence_N[staying])
        threshold = float(candidates[-leaving]) if 0 < leaving <= len(candidates) else NEVER_EXITS
        staying &= confidence_N < threshold
        thresholds.append(threshold)
    return tuple(thresholds)
