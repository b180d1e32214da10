"""The authors' way to choose thresholds: the share of images to leave at every exit, by quantile of confidence.

Labels are not used. It is the baseline every other solver has to beat.

Shapes: E exits, N images.
"""

import numpy as np

from weights.calibration.thresholds import Floats

NEVER_EXITS = 1e8
"""The threshold of an exit nobody leaves at, as the authors' tables write it."""

BUDGETS = tuple(step / 20 for step in range(1, 60))
"""The budgets of the authors' tables, from cheap to dear."""


def authors_thresholds(confidence_EN: Floats, budget: float) -> tuple[float, ...]:
    """Thresholds by which about a share of u^(k + 1) of the images leaves at exit k, u being the budget.

    Of the images not yet gone, the r most confident leave, with r the exit's share of all images, rounded down; ties
    with the last of them leave too. An exit whose share is less than one image, or more than are left, lets nobody
    go.

    Args:
        confidence_EN: largest softmax probability of each exit for each image.
        budget: above 0; 1 shares equally, less favours the first exits.

    Returns:
        One threshold per exit but the last; `NEVER_EXITS` where nobody leaves.

    Raises:
        ValueError: when the budget is not above 0.

    Source: the budgeted batch classification of arXiv 2105.15075, by the rules of its published evaluation.
    """
    if not budget > 0:
        raise ValueError(f"budget must be above 0, got {budget}")
    exits, images = confidence_EN.shape
    # float32 as in the published tables, so that a share on the edge of a whole image falls to the same side.
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
