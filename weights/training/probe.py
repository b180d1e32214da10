"""A linear classifier on fixed features: the initial weights of every exit.

Shapes: N images, F features, K classes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS, _RATE, _WEIGHT_DECAY = 300, 3e-3, 0.05


@torch.enable_grad()
def fit_probe(head: nn.Linear, features_NF: Tensor, labels_N: Tensor, report: Callable[[int, int], None]) -> None:
    """Fit a layer to these features: full-batch softmax regression, from zero.

    Args:
        report: receives after every step the number of steps done, and of how many.
    """
    fitted = nn.Linear(head.in_features, head.out_features, device=features_NF.device)
    nn.init.zeros_(fitted.weight)
    nn.init.zeros_(fitted.bias)
    features_NF = features_NF.detach().float().clone()
    optimizer = torch.optim.AdamW(fitted.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    for step in range(_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(fitted(features_NF), labels_N).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(step + 1, _STEPS)
    head.load_state_dict(fitted.state_dict())
