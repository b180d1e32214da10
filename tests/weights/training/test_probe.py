import pytest
import torch
from torch import nn

from weights.training.probe import fit_probe


def _features(count: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return noise + 6 * torch.eye(3, 6)[labels], labels


@pytest.mark.parametrize("start", [0.0, 50.0])
def test_fit_probe_separable_features_are_told_apart_whatever_the_head_was(start: float) -> None:
    features, labels = _features()
    head = nn.Linear(6, 3)
    nn.init.constant_(head.weight, start)
    steps = []
    with torch.no_grad():
        fit_probe(head, features, labels, lambda done, total: steps.append((done, total)))
    assert (head(features).argmax(dim=1) == labels).float().mean() > 0.97
    assert head.weight.abs().max() < 10
    assert steps[-1] == (len(steps), len(steps))


def test_fit_probe_cut_short_leaves_the_head_as_it_was() -> None:
    head = nn.Linear(6, 3)
    before = head.weight.clone()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_probe(head, *_features(), stop)
    assert torch.equal(head.weight, before)
