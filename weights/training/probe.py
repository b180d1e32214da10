"""A linear classifier on features that do not change: the start of every exit.

Shapes: N images, F features, K classes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS, _RATE, _WEIGHT_DECAY = 300, 3e-3, 0.05


@torch.enable_grad()
def fit_probe(head: nn.Linear, features_NF: Tensor, labels_N: Tensor, report: Callable[[int, int], None]) -> None:
    """Set a layer to the classifier of these features: softmax regression on all of them at once, from zero.

    Args:
        report: told after every step how many are done, and of how many.
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
