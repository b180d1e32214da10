"""How an image becomes tokens, as frozen, validated values: one class for each way."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from models.errors import ConfigError, require
from models.trunk_config import TrunkEmbeddingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchEmbeddingConfig:
    """Tokens are linear projections of image patches, cut anew for every stage.

    The patch is the smallest one whose grid covers the image; the image is padded evenly to fit.
    """

    kind: Literal["patch"] = "patch"

    def validate(self, image_size: int, grids: tuple[int, ...]) -> None:
        """Check that every grid covers the image with even padding.

        Raises:
            ConfigError: for the first grid that does not.
        """
        for grid in grids:
            overhang = -image_size % grid
            require(
                overhang % 2 == 0,
                f"image_size {image_size} leaves an odd padding of {overhang} at grid {grid}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridEmbeddingConfig:
    """Tokens are cut from the feature map of a convolutional stem that all stages share.

    Attributes:
        channels: output channels of each 3x3 convolution; the last is the map's channel count.
        strides: stride of each convolution.
        blocks: residual blocks of two 3x3 convolutions after each convolution; empty for none.
        stage_blocks: residual blocks that each stage applies to the map before it cuts its tokens; the next stage
            continues from the result. Empty for none: all stages read the same map.
        unshuffle: factor u of the space-to-depth rearrangement before those blocks: they read
            [channels u², side / u, side / u]. For the same MACs a block then has u² times as many weights.

    Source: the hybrid of arXiv 2010.11929, section 3.1, with a stem of a few convolutions instead of a ResNet-50;
    the blocks are the basic blocks of arXiv 1512.03385; space-to-depth inverts the shuffling of arXiv 1609.05158.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: tuple[int, ...] = ()
    stage_blocks: tuple[int, ...] = ()
    unshuffle: int = 1
    kind: Literal["hybrid"] = "hybrid"

    def map_size(self, image_size: int) -> int:
        """Side of the stem's feature map."""
        return image_size // prod(self.strides)

    def layers(self) -> Iterator[tuple[int, int, int, int]]:
        """(input channels, output channels, stride, residual blocks behind it) of each convolution."""
        widths = (3, *self.channels[:-1])
        return zip(widths, self.channels, self.strides, self.blocks or (0,) * len(self.channels), strict=True)

    def deepened_by(self, stage: int) -> int:
        """Residual blocks that a stage applies to the map it receives."""
        return self.stage_blocks[stage] if self.stage_blocks else 0

    def validate(self, image_size: int, grids: tuple[int, ...]) -> None:
        """Check the stem against the image and the grids.

        Raises:
            ConfigError: when the lengths differ, the image is not divisible, or a grid is finer than the map.
        """
        require(
            len(self.channels) == len(self.strides) > 0,
            f"stem needs as many channels as strides and at least one, got {self.channels} and {self.strides}",
        )
        require(
            not self.blocks or len(self.blocks) == len(self.channels),
            f"stem needs a number of blocks for each of its {len(self.channels)} convolutions, got {self.blocks}",
        )
        require(
            not self.stage_blocks or len(self.stage_blocks) == len(grids),
            f"stage_blocks needs a number for each of the {len(grids)} stages, got {self.stage_blocks}",
        )
        counts = self.blocks + self.stage_blocks
        require(min(counts, default=0) >= 0, f"stem blocks must not be negative: {counts}")
        require(
            min(self.channels + self.strides) > 0,
            f"stem sizes must be positive: {self.channels}, {self.strides}",
        )
        require(
            image_size % prod(self.strides) == 0,
            f"image_size {image_size} is not divisible by the stem's stride {prod(self.strides)}",
        )
        side = self.map_size(image_size)
        require(
            self.unshuffle > 0 and side % self.unshuffle == 0,
            f"unshuffle must divide the map's side {side}, got {self.unshuffle}",
        )
        require(
            max(grids) <= side,
            f"grid {max(grids)} is finer than the stem's map of {side}",
        )


class SplitGeometry(NamedTuple):
    """Overlapping, zero-padded patches of a map."""

    kernel: int
    stride: int
    padding: int

    def tokens_per_side(self, side: int) -> int:
        """Patches per side of a map of `side`."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


_LATER_SPLIT = SplitGeometry(3, 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensToTokenConfig:
    """Tokens are gathered in three overlapping splits, with a linear-cost attention layer after the first two.

    Attributes:
        token_dim: channels between the splits.
        num_features: random features of the attention kernel.
        first_splits: (grid, kernel, stride, padding) of the first split for every grid; the other two are 3, 2, 1.

    Source: arXiv 2101.11986, section 3.1; the splits of grids 7 and 10 are arXiv 2105.15075's.
    """

    token_dim: int = 64
    num_features: int = 32
    first_splits: tuple[tuple[int, int, int, int], ...] = ((7, 14, 8, 3), (10, 11, 6, 5), (14, 7, 4, 2))
    kind: Literal["t2t"] = "t2t"

    def splits(self, grid: int) -> tuple[SplitGeometry, SplitGeometry, SplitGeometry]:
        """Geometry of the three splits that end at `grid`.

        Raises:
            ConfigError: when there is no first split for this grid.
        """
        first = next((split for split in self.first_splits if split[0] == grid), None)
        if first is None:
            raise ConfigError(f"grid {grid} has no first split among {self.first_splits}")
        return SplitGeometry(*first[1:]), _LATER_SPLIT, _LATER_SPLIT

    def sides(self, image_size: int, grid: int) -> tuple[int, int, int]:
        """Tokens per side after each split."""
        first, second, third = self.splits(grid)
        coarse = first.tokens_per_side(image_size)
        middle = second.tokens_per_side(coarse)
        return coarse, middle, third.tokens_per_side(middle)

    def validate(self, image_size: int, grids: tuple[int, ...]) -> None:
        """Check the sizes, and that the splits of every grid end at it.

        Raises:
            ConfigError: for the first rule the values break.
        """
        require(
            min(self.token_dim, self.num_features) > 0,
            f"token_dim and num_features must be positive, got {self.token_dim} and {self.num_features}",
        )
        for grid in grids:
            first = self.splits(grid)[0]
            require(
                min(first.kernel, first.stride) > 0 and first.padding >= 0,
                f"the first split of grid {grid} needs positive kernel and stride, padding from 0; got {first}",
            )
            sides = self.sides(image_size, grid)
            require(
                sides[-1] == grid,
                f"image_size {image_size} gives {' -> '.join(map(str, sides))} tokens a side, not grid {grid}",
            )


EmbeddingConfig = PatchEmbeddingConfig | HybridEmbeddingConfig | TokensToTokenConfig | TrunkEmbeddingConfig
