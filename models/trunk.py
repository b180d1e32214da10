"""A convolutional trunk of the EfficientNet-Lite family; a stage reads its last map at each of some strides.

Shapes: B batch, P side of a look in pixels, C channels of a map, s its side, F channels of the pooled features.

Source: arXiv 1905.11946 for the blocks and their scaling. The Lite variants have no squeeze-and-excitation, use ReLU6,
and scale neither stem and head nor the repeats of the first and the last group of blocks.
"""

from typing import NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import FoldableConv
from models.trunk_config import BlockGeometry, TrunkConfig, same_padding

_NORM_EPS, _NORM_MOMENTUM = 1e-3, 0.01


class TrunkOutput(NamedTuple):
    """The output of a trunk.

    Attributes:
        maps: the last map at each of the trunk's `strides`, [B, C, s, s] each.
        pooled: the head's features, averaged over the map, [B, F].
    """

    maps: list[Tensor]
    pooled: Tensor


class TrunkConv(FoldableConv):
    """Convolution, batch norm and an optional ReLU6, with the zero padding of TensorFlow's SAME."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, linear: bool
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=_NORM_EPS, momentum=_NORM_MOMENTUM)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """Apply.

        Shape: [B, in_channels, s, s] -> [B, out_channels, ceil(s / stride), ceil(s / stride)]
        """
        if self.conv.stride != (1, 1):
            before, after = same_padding(x.shape[-1], self.conv.kernel_size[0], self.conv.stride[0])
            x = F.pad(x, (before, after, before, after))
        y: Tensor = self.norm(self.conv(x))
        return y if self.linear else F.relu6(y, inplace=True)


class InvertedResidual(nn.Module):
    """An inverted residual block: widen, depthwise convolution, narrow; with a skip connection if the shape is kept.

    Source: arXiv 1801.04381, section 3.3.
    """

    def __init__(self, geometry: BlockGeometry) -> None:
        super().__init__()
        width = geometry.in_channels * geometry.expansion
        layers = [] if geometry.expansion == 1 else [TrunkConv(geometry.in_channels, width, linear=False)]
        layers += [
            TrunkConv(width, width, geometry.kernel, stride=geometry.stride, groups=width, linear=False),
            TrunkConv(width, geometry.out_channels, linear=True),
        ]
        self.layers = nn.Sequential(*layers)
        self.is_residual = geometry.is_residual

    def forward(self, x: Tensor) -> Tensor:
        """Apply.

        Shape: [B, in_channels, s, s] -> [B, out_channels, ceil(s / stride), ceil(s / stride)]
        """
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


class Trunk(nn.Module):
    """Stem, blocks and head of an EfficientNet-Lite, without its classifier.

    Args:
        strides: strides of the maps to return, increasing.
    """

    def __init__(self, config: TrunkConfig, strides: tuple[int, ...]) -> None:
        super().__init__()
        geometries = config.blocks()
        self.stem = TrunkConv(3, config.stem_channels, 3, stride=2, linear=False)
        self.blocks = nn.ModuleList(InvertedResidual(geometry) for geometry in geometries)
        self.head = TrunkConv(geometries[-1].out_channels, config.head_channels, linear=False)
        self._returned = tuple(config.last_block_at(stride) for stride in strides)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but the norms, which keep their pretrained statistics.

        A short run would move the statistics only part of the way to those of its data, which lowers accuracy.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, looks: Tensor) -> TrunkOutput:
        """Apply.

        Shape: [B, 3, P, P] -> maps [B, C, s, s], pooled [B, F]
        """
        return self.late(self.early(looks, 0), 0)

    def early(self, looks: Tensor, blocks: int) -> Tensor:
        """Only the stem and the first blocks; training caches the result while their weights are frozen.

        Shape: [B, 3, P, P] -> [B, C, s, s]
        """
        x: Tensor = self.stem(looks)
        for block in self.blocks[:blocks]:
            x = block(x)
        return x

    def late(self, x: Tensor, blocks: int) -> TrunkOutput:
        """The rest of the forward pass after `early` with the same number of blocks.

        Shape: [B, C, s, s] -> maps [B, C, s, s], pooled [B, F]

        Raises:
            ValueError: when one of those blocks makes a map that is returned.
        """
        if blocks > self._returned[0]:
            raise ValueError(f"the first map is that of block {self._returned[0]}, and {blocks} blocks have been run")
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks[blocks:], start=blocks):
            x = block(x)
            if index in self._returned:
                maps.append(x)
        return TrunkOutput(maps, self.head(x).mean(dim=(2, 3)))
