"""Chooses on held-out images the share of the previous exit's logits that each exit adds.

Shapes: E exits, N images, K classes.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.cascade import Cascade
from models.stage import Stage
from weights.calibration.table import fit_temperature, negative_log_likelihood
from weights.calibration.thresholds import Floats

_SHARES = np.linspace(0.0, 1.0, 21)
# A prior for small data sets: 319 held-out photographs gave 0.2, 0.35 and 0.5 for the exits of `dvt-photos`.
_USUAL_SHARE, _SPREAD = 0.4, 0.2


def fit_shares(
    logits_ENK: Floats, labels_N: npt.NDArray[np.int64], shares: tuple[float, ...]
) -> tuple[tuple[float, ...], npt.NDArray[np.float64]]:
    """The most probable shares, each at its best temperature, chosen exit by exit; and the logits with them.

    The prior is normal with mean 0.4 and standard deviation 0.2; it decides when there are few images.

    Args:
        shares: the shares with which the logits were computed; the first exit's is 0.

    Shape: logits [E, N, K], labels [N] -> E shares, logits [E, N, K]
    """
    own_ENK = _own(logits_ENK, shares)
    chosen, mixed = [0.0], [own_ENK[0]]
    for own_NK in own_ENK[1:]:

        def cost(share: float, own_NK: Floats = own_NK, before_NK: Floats = mixed[-1]) -> float:
            logits_NK = own_NK + share * before_NK
            fit = negative_log_likelihood(logits_NK, labels_N, fit_temperature(logits_NK, labels_N))
            return len(labels_N) * fit + ((share - _USUAL_SHARE) / _SPREAD) ** 2 / 2

        chosen.append(float(min(_SHARES, key=cost)))
        mixed.append(own_NK + chosen[-1] * mixed[-1])
    return tuple(chosen), np.stack(mixed)


def with_shares(logits_ENK: Floats, old: tuple[float, ...], new: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Converts logits computed with the old shares to the new shares."""
    own_ENK = _own(logits_ENK, old)
    mixed = [own_ENK[0]]
    for own_NK, share in zip(own_ENK[1:], new[1:], strict=True):
        mixed.append(own_NK + share * mixed[-1])
    return np.stack(mixed)


def shares_of(cascade: Cascade) -> tuple[float, ...]:
    """The share of each exit; 0 for an exit that adds none."""
    return tuple(0.0 if share is None else share.item() for share in _parameters(cascade))


def set_shares(cascade: Cascade, shares: tuple[float, ...]) -> None:
    """Set the shares that `shares_of` returns."""
    with torch.no_grad():
        for parameter, share in zip(_parameters(cascade), shares, strict=True):
            if parameter is not None:
                parameter.fill_(share)


def _own(logits_ENK: Floats, shares: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The logits of each exit without those it adds."""
    own_ENK = logits_ENK.astype(np.float64)
    own_ENK[1:] -= np.asarray(shares[1:])[:, None, None] * logits_ENK[:-1]
    return own_ENK


def _parameters(cascade: Cascade) -> list[nn.Parameter | None]:
    return [stage.logit_share for stage in cascade.stages if isinstance(stage, Stage)]
