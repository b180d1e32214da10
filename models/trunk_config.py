"""Sizes of an EfficientNet-Lite trunk and of the looks of a cascade, as frozen, validated values."""

from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple

from models.errors import require

_GROUPS = (
    # expansion, channels, repeats, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_CHANNEL_STEP = 8

STRIDES = (2, 4, 8, 16, 32)
"""Strides of a trunk's maps: pixels of the look per cell."""


class BlockGeometry(NamedTuple):
    """Shape of one inverted residual block."""

    in_channels: int
    out_channels: int
    expansion: int
    stride: int
    kernel: int

    @property
    def is_residual(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.in_channels == self.out_channels


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis so that a convolution gives ceil(side / stride) cells; an odd zero goes after.

    Source: the SAME padding of TensorFlow, with which the published weights were trained.
    """
    total = max((ceil(side / stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkConfig:
    """A member of the EfficientNet-Lite family.

    Attributes:
        width: factor of the blocks' channels.
        depth: factor of the blocks' repeats.
        stem_channels: output channels of the first convolution.
        head_channels: output channels of the last convolution, and so of the pooled features.
    """

    width: float = 1.0
    depth: float = 1.0
    stem_channels: int = 32
    head_channels: int = 1280

    def __post_init__(self) -> None:
        require(min(self.width, self.depth) > 0, f"trunk width and depth must be positive, got {self}")
        require(min(self.stem_channels, self.head_channels) > 0, f"trunk channels must be positive, got {self}")

    def blocks(self) -> tuple[BlockGeometry, ...]:
        """Every block, in order."""
        geometries, in_channels = [], self.stem_channels
        for group, (expansion, channels, repeats, stride, kernel) in enumerate(_GROUPS):
            out_channels = _rounded(channels * self.width)
            if 0 < group < len(_GROUPS) - 1:
                repeats = ceil(repeats * self.depth)
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                geometries.append(BlockGeometry(in_channels, out_channels, expansion, step, kernel))
                in_channels = out_channels
        return tuple(geometries)

    def last_block_at(self, stride: int) -> int:
        """Index of the last block whose map has this stride.

        Raises:
            ConfigError: when there is none.
        """
        reached, found = 2, -1
        for index, geometry in enumerate(self.blocks()):
            reached *= geometry.stride
            if reached == stride:
                found = index
        require(found >= 0, f"a trunk has maps at the strides {STRIDES}, not {stride}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LookConfig:
    """How one stage reads the image: a resolution and a trunk.

    Attributes:
        px: side the image is reduced to.
        strides: strides of the maps that become tokens, increasing.
        trunk: the convolutional network that reads the look.
    """

    px: int
    strides: tuple[int, ...] = (32,)
    trunk: TrunkConfig = TrunkConfig()

    def __post_init__(self) -> None:
        require(self.px > 0, f"a look needs a positive side, got {self.px}")
        increasing = tuple(stride for stride in STRIDES if stride in self.strides)
        require(
            len(self.strides) > 0 and self.strides == increasing,
            f"strides of a look must be increasing ones of {STRIDES}, got {self.strides}",
        )

    def maps(self) -> tuple[tuple[int, int], ...]:
        """(channels, side) of each map that becomes tokens."""
        blocks = self.trunk.blocks()
        return tuple(
            (blocks[self.trunk.last_block_at(stride)].out_channels, ceil(self.px / stride)) for stride in self.strides
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkEmbeddingConfig:
    """Tokens come from the maps of a pretrained trunk; each stage reads the image at its own resolution.

    Attributes:
        looks: one for each stage.

    Source: the hybrid of arXiv 2010.11929, section 3.1, with a trunk for every resolution in place of one ResNet.
    """

    looks: tuple[LookConfig, ...]
    kind: Literal["trunk"] = "trunk"

    def validate(self, image_size: int, grids: tuple[int, ...]) -> None:
        """Check the looks against the image and the grids.

        Raises:
            ConfigError: when their number differs, their trunks end in features of different sizes, a look is larger
                than the image, or a grid is more than twice as fine as one of its maps.
        """
        require(
            len(self.looks) == len(grids),
            f"each of the {len(grids)} stages needs a look, got {len(self.looks)}",
        )
        widths = tuple(look.trunk.head_channels for look in self.looks)
        require(len(set(widths)) == 1, f"the trunks of all looks need the same head_channels, got {widths}")
        for grid, look in zip(grids, self.looks, strict=True):
            require(look.px <= image_size, f"a look of {look.px} px is larger than image_size {image_size}")
            for _, side in look.maps():
                require(
                    grid <= 2 * side,
                    f"grid {grid} is more than twice as fine as the {side}x{side} map of a look of {look.px} px",
                )


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that is below nine tenths.

    Source: the published code of arXiv 1905.11946.
    """
    step = _CHANNEL_STEP
    rounded = max(step, int(channels + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * channels else rounded
