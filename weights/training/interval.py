"""Confidence interval of a share."""

from math import sqrt

_NORMAL_QUANTILE = 1.959964  # the normal distribution's quantile of 97.5 %


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share when `right` of `total` images were right.

    Source: Wilson, Probable inference, JASA 22 (1927); unlike the normal approximation it holds near 0 and 1.
    """
    share, z = right / total, _NORMAL_QUANTILE
    centre = share + z**2 / (2 * total)
    reach = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
