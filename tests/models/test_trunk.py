from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cascades import TINY_LOOKS, randomised
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.config import TrunkConfig
from models.trunk import Trunk, TrunkConv

STRIDES = (2, 4, 8, 16, 32)
SMALL = TrunkConfig(width=0.3, depth=0.4, stem_channels=8, head_channels=24)


@torch.no_grad()
def _randomise(module: nn.Module) -> nn.Module:
    """Weights and statistics of which none is at its initial value, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim == 4:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(0.2 * noise + name.endswith("weight"))
    return module.eval()


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [
        # Sums of the windows that start at index 0: of an even side the odd zero goes after.
        (4, 3, 2, [1 + 2 + 3, 3 + 4]),
        (5, 3, 2, [1 + 2, 2 + 3 + 4, 4 + 5]),
        (6, 5, 2, [1 + 2 + 3 + 4, 2 + 3 + 4 + 5 + 6, 4 + 5 + 6]),
        (5, 5, 2, [1 + 2 + 3, 1 + 2 + 3 + 4 + 5, 3 + 4 + 5]),
        (4, 3, 1, [1 + 2, 1 + 2 + 3, 2 + 3 + 4, 3 + 4]),
    ],
)
def test_trunk_conv_same_padding_equals_sums_by_hand(side: int, kernel: int, stride: int, expected: list[int]) -> None:
    layer = TrunkConv(1, 1, kernel, stride=stride, linear=True).eval()
    layer.norm = nn.Identity()
    nn.init.ones_(layer.conv.weight)
    ramp = torch.arange(1.0, side + 1)
    # The kernel's sum over the outer product of two ramps is the product of the sums along the axes.
    along = torch.tensor(expected, dtype=torch.float32)
    assert torch.equal(layer(torch.outer(ramp, ramp)[None, None])[0, 0], torch.outer(along, along))


@pytest.mark.parametrize(("side", "sides"), [(64, [32, 16, 8, 4, 2]), (49, [25, 13, 7, 4, 2]), (33, [17, 9, 5, 3, 2])])
@torch.no_grad()
def test_trunk_maps_are_the_last_of_each_stride(side: int, sides: list[int]) -> None:
    trunk = _randomise(Trunk(SMALL, STRIDES))
    output = trunk(torch.randn(2, 3, side, side))
    geometries = SMALL.blocks()
    channels = [geometries[SMALL.last_block_at(stride)].out_channels for stride in STRIDES]
    shapes = [(2, channel, cells, cells) for channel, cells in zip(channels, sides, strict=True)]
    assert [tuple(each.shape) for each in output.maps] == shapes
    assert torch.equal(output.pooled, trunk.head(output.maps[-1]).mean(dim=(2, 3)))
    assert output.pooled.min() >= 0
    assert output.pooled.max() <= 6


@pytest.mark.parametrize("blocks", [0, 1, 3])
@torch.no_grad()
def test_trunk_early_then_late_equals_the_whole(blocks: int) -> None:
    trunk = _randomise(Trunk(SMALL, (16, 32)))
    looks = torch.randn(2, 3, 49, 49)
    expected, found = trunk(looks), trunk.late(trunk.early(looks, blocks), blocks)
    assert all(torch.equal(old, new) for old, new in zip(expected.maps, found.maps, strict=True))
    assert torch.equal(found.pooled, expected.pooled)


def test_trunk_late_past_the_first_map_raises() -> None:
    trunk = Trunk(SMALL, (2, 32))
    with pytest.raises(ValueError, match="first map is that of block 0, and 1 blocks have been run"):
        trunk.late(torch.zeros(1, 8, 8, 8), 1)


def test_trunk_training_keeps_the_norms_statistics() -> None:
    trunk = Trunk(SMALL, (32,)).train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk(torch.randn(4, 3, 32, 32)).pooled.sum().backward()
    assert trunk.training
    assert all(torch.equal(before[key], value) for key, value in trunk.state_dict().items())
    assert all(parameter.grad is not None for parameter in trunk.parameters())
    cascade = randomised(TINY_LOOKS).train()
    assert not any(module.training for module in cascade.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize(("px", "mega_macs"), [(224, 383.9), (112, 105.6), (64, 31.3)])
def test_trunk_lite0_executes_the_published_macs(px: int, mega_macs: float) -> None:
    with torch.device("meta"):
        trunk, looks = Trunk(TrunkConfig(), (32,)).eval(), torch.zeros(1, 3, px, px)
    with FlopCounterMode(display=False) as counter:
        trunk(looks)
    assert round(counter.get_total_flops() / 2e6, 1) == mega_macs


@pytest.fixture
def package() -> Any:
    """The PyPI package whose Lite0 the trunk is to equal."""
    return pytest.importorskip(
        "efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch, the network to compare with, is not installed"
    )


@torch.no_grad()
def test_trunk_lite0_equals_the_published_package(package: Any) -> None:
    published = _randomise(package.EfficientNet.from_name("efficientnet-lite0"))
    trunk = Trunk(TrunkConfig(), (32,)).eval()
    tensors = [value for name, value in published.state_dict().items() if not name.startswith("_fc.")]
    state = trunk.state_dict()
    assert [value.shape for value in state.values()] == [value.shape for value in tensors]
    trunk.load_state_dict(dict(zip(state, tensors, strict=True)))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = F.adaptive_avg_pool2d(published.extract_features(images), 1).flatten(1)
    assert expected.std() > 0.1
    torch.testing.assert_close(trunk(images).pooled, expected, atol=1e-5, rtol=0)
