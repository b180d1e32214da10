"""Which optimiser trains which weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.cascade import Cascade
from weights.training.recipe import Recipe


class KernelMuon(torch.optim.Muon):
    """Muon that also takes convolution kernels, as matrices of one row per output channel.

    Source: arXiv 2502.16982 for the scale of the steps; torch's own class takes matrices only.
    """

    def __init__(self, weights: Sequence[Tensor], weight_decay: float) -> None:
        self._weights = list(weights)
        # A view of the same memory: what is stepped here is the weight itself.
        self._matrices = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in weights]
        super().__init__(self._matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with the gradients of the weights; those without one stay as they are."""
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.reshape(matrix.shape)
        return super().step(closure)  # type: ignore[no-untyped-call]


def build_optimizers(cascade: Cascade, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One for matrices and kernels, which decay, and one for norms, biases, positions and class tokens, which do not.

    The cascade must stay where it is in memory from then on.
    """
    matrices: list[Tensor] = []
    exempt: list[Tensor] = []
    for name, parameter in cascade.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and not name.endswith(("cls_token", "pos_embed"))
        (matrices if is_matrix else exempt).append(parameter)
    rest = torch.optim.AdamW(exempt, weight_decay=0.0, fused=True)
    if recipe.optimizer == "muon":
        return [KernelMuon(matrices, recipe.weight_decay), rest]
    return [torch.optim.AdamW(matrices, weight_decay=recipe.weight_decay, fused=True), rest]
