import pytest
import torch
from cascades import TINY_LOOKS, randomised
from torch import nn

from models.config import TrunkConfig
from models.trunk import Trunk

SMALL = TrunkConfig(width=0.3, depth=0.4, stem_channels=8, head_channels=24)


@torch.no_grad()
def test_trunk_early_then_late_equals_the_whole_up_to_the_first_map() -> None:
    trunk, looks = Trunk(SMALL, (16, 32)).eval(), torch.randn(2, 3, 49, 49)
    expected, found = trunk(looks), trunk.late(trunk.early(looks, 3), 3)
    assert all(torch.equal(old, new) for old, new in zip(expected.maps, found.maps, strict=True))
    assert torch.equal(found.pooled, expected.pooled)
    with pytest.raises(ValueError, match="first map is that of block 0, and 1 blocks have been run"):
        Trunk(SMALL, (2, 32)).late(torch.zeros(1, 8, 8, 8), 1)


def test_trunk_training_keeps_the_norms_statistics() -> None:
    trunk = Trunk(SMALL, (32,)).train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk(torch.randn(4, 3, 32, 32)).pooled.sum().backward()
    assert trunk.training
    assert all(torch.equal(before[key], value) for key, value in trunk.state_dict().items())
    assert all(parameter.grad is not None for parameter in trunk.parameters())
    cascade = randomised(TINY_LOOKS).train()
    assert not any(module.training for module in cascade.modules() if isinstance(module, nn.BatchNorm2d))
