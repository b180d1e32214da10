from dataclasses import replace

import pytest
import torch
from cascades import TINY, randomised

from models.cascade import Cascade
from weights.training.optimizers import KernelMuon, build_optimizers
from weights.training.recipe import Recipe

RECIPE = Recipe(epochs=1, weight_decay=0.5)


def _stepped(recipe: Recipe, stages: int | None = None) -> tuple[Cascade, Cascade]:
    """A cascade before and after a step of every optimiser."""
    before, cascade = randomised(TINY), randomised(TINY).train()
    optimizers = build_optimizers(cascade, recipe)
    sum(logits.square().sum() for logits in cascade(torch.randn(4, 3, 28, 28), stages)).backward()
    for optimizer in optimizers:
        optimizer.step()
    return before, cascade


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_build_optimizers_norms_biases_and_positions_are_not_decayed(name: str) -> None:
    cascade = randomised(TINY)
    matrices, exempt = (
        optimizer.param_groups[0] for optimizer in build_optimizers(cascade, replace(RECIPE, optimizer=name))
    )
    assert (matrices["weight_decay"], exempt["weight_decay"]) == (0.5, 0.0)
    where = {parameter.data_ptr(): key for key, parameter in cascade.named_parameters()}
    assert all(where[parameter.data_ptr()].endswith("weight") for parameter in matrices["params"])
    kept = {where[parameter.data_ptr()] for parameter in exempt["params"]}
    assert {"stages.0.cls_token", "stages.0.pos_embed", "stages.1.norm.weight"} <= kept
    assert len(matrices["params"]) + len(kept) == len(where)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_build_optimizers_a_step_changes_every_weight_that_matters(name: str) -> None:
    before, after = _stepped(replace(RECIPE, optimizer=name))
    for (key, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        # What the last block reuses reaches no class token: it decays, if it is a matrix, and no more.
        assert torch.equal(old, new) <= (new.grad is not None and not new.grad.any()), key


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_build_optimizers_a_step_leaves_stages_without_gradients_alone(name: str) -> None:
    before, after = _stepped(replace(RECIPE, optimizer=name), stages=2)
    for (key, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert (new.grad is None) == key.startswith(("stages.2", "stages.3"))
        assert new.grad is not None or torch.equal(old, new), key


def test_kernel_muon_step_of_a_kernel_is_orthogonal_of_the_size_of_adamws() -> None:
    kernel = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    kernel.grad = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    optimizer = KernelMuon([kernel], weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    singular_values = torch.linalg.svdvals(kernel.detach().view(8, 36)) / (0.1 * 0.2 * 36**0.5)
    assert 0.5 < singular_values.min() <= singular_values.max() < 1.5
    assert (kernel.detach() * kernel.grad).sum() < 0
