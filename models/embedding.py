"""How an image becomes tokens: plain patches, cells of a convolutional stem's feature map, tokens-to-token, or a trunk.

Shapes: B batch, S image side in pixels, G grid, D embedding, N = G² + 1 tokens.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.config import (
    CascadeConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    TokensToTokenConfig,
    TrunkEmbeddingConfig,
)
from models.embedded import Embedded
from models.layers import FoldableConv
from models.look import LookEmbedding
from models.t2t import TokensToToken


def is_channels_last(x: Tensor) -> bool:
    """Whether the map is in channels-last memory order and not also in the default order.

    Shape: [B, channels, side, side]
    """
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class PatchEmbedding(nn.Module):
    """One convolution whose kernels tile its input.

    Args:
        in_channels: 3 for an image; after a stem, the channels of its map.
        kernel: side of a patch.
        stride: distance between patches.
        padding: zeros added on each side.
    """

    def __init__(self, in_channels: int, dim: int, *, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Embedded:
        """Project the patches, in raster order.

        Shape: [B, in_channels, side, side] -> [B, G², D]
        """
        if is_channels_last(x) and self.proj.padding == (0, 0):
            return Embedded(self._cut(x))
        return Embedded(rearrange(self.proj(x), "b d h w -> b (h w) d"))

    def _cut(self, x: Tensor) -> Tensor:
        """The same as one matrix product. In channels-last order, a row of a patch is one contiguous copy."""
        kernel, stride = self.proj.kernel_size, self.proj.stride
        patches = x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
        patches = rearrange(patches, "b c h w p q -> b (h w) (p q c)")
        return F.linear(patches, rearrange(self.proj.weight, "d c p q -> d (p q c)"), self.proj.bias)


def gelu(x: Tensor) -> Tensor:
    """GELU of a map in any memory order.

    Shape: [B, channels, side, side] -> the same
    """
    if is_channels_last(x):
        # The fast GELU kernel for CPUs needs contiguous memory.
        return rearrange(F.gelu(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")
    return F.gelu(x)


class ConvNorm(FoldableConv):
    """3x3 convolution, batch norm, GELU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply.

        Shape: [B, in_channels, side, side] -> [B, out_channels, side / stride, side / stride]
        """
        return gelu(self.linear(x))

    def linear(self, x: Tensor) -> Tensor:
        """Convolution and norm, without the activation."""
        y: Tensor = self.norm(self.conv(x))
        return y


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection.

    Source: arXiv 1512.03385, section 3.3, with GELU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 1)
        self.second = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply.

        Shape: [B, channels, side, side] -> the same
        """
        return gelu(x + self.second.linear(self.first(x)))


class Stem(nn.Sequential):
    """The convolutions shared by all stages, computed once per image.

    Shape: [B, 3, S, S] -> [B, channels, side, side]
    """

    def __init__(self, config: HybridEmbeddingConfig) -> None:
        layers: list[nn.Module] = []
        for width, channels, stride, blocks in config.layers():
            layers.append(ConvNorm(width, channels, stride))
            layers.extend(ResidualBlock(channels) for _ in range(blocks))
        super().__init__(*layers)


class Deepening(nn.ModuleList):
    """Residual blocks on a map after space-to-depth: `unshuffle` x `unshuffle` positions become one.

    Shape: [B, channels, side, side] -> the same
    """

    def __init__(self, channels: int, blocks: int, unshuffle: int) -> None:
        super().__init__(ResidualBlock(channels * unshuffle**2) for _ in range(blocks))
        self._unshuffle = unshuffle

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        if len(self) == 0:
            return x
        factors = {"i": self._unshuffle, "j": self._unshuffle}
        # Channels-last memory on both sides: convolutions on CPUs and tensor cores are faster with it.
        x = rearrange(rearrange(x, "b c (h i) (w j) -> b h w (i j c)", **factors), "b h w c -> b c h w")
        for block in self:
            x = block(x)
        return rearrange(rearrange(x, "b (i j c) h w -> b (h i) (w j) c", **factors), "b h w c -> b c h w")


def build_deepening(config: CascadeConfig) -> nn.ModuleList:
    """For each stage, the residual blocks applied to the shared map before the stage cuts its tokens.

    Shape of each: [B, channels, side, side] -> the same
    """
    hybrid = config.embedding
    if not isinstance(hybrid, HybridEmbeddingConfig):
        return nn.ModuleList()
    return nn.ModuleList(
        Deepening(hybrid.channels[-1], hybrid.deepened_by(stage), hybrid.unshuffle)
        for stage in range(config.num_stages)
    )


def patch_geometry(side: int, grid: int) -> tuple[int, int, int]:
    """(kernel, stride, padding) of the smallest patch whose grid covers `side` pixels.

    224 at grid 10 gives 23, 23, 3; where the grid divides the side the padding is 0.
    """
    patch = -(-side // grid)
    return patch, patch, (patch * grid - side) // 2


def map_geometry(side: int, grid: int) -> tuple[int, int, int]:
    """(kernel, stride, padding) for `grid` cells per side that cover a whole map without padding.

    A map of 14 gives kernels 7, 5, 2, 1 at strides 7, 3, 2, 1 for grids 2, 4, 7, 14.
    """
    stride = side // grid
    return side - stride * (grid - 1), stride, 0


def build_embedding(config: CascadeConfig, index: int) -> PatchEmbedding | TokensToToken | LookEmbedding:
    """The embedding of a stage."""
    grid = config.grids[index]
    match config.embedding:
        case PatchEmbeddingConfig():
            in_channels, geometry = 3, patch_geometry(config.image_size, grid)
        case HybridEmbeddingConfig() as hybrid:
            in_channels, geometry = (
                hybrid.channels[-1],
                map_geometry(hybrid.map_size(config.image_size), grid),
            )
        case TokensToTokenConfig() as t2t:
            return TokensToToken(t2t, config.embed_dim, grid, norm_eps=config.norm_eps)
        case TrunkEmbeddingConfig() as trunk:
            return LookEmbedding(trunk.looks[index], config.embed_dim, grid, norm_eps=config.norm_eps)
    kernel, stride, padding = geometry
    return PatchEmbedding(in_channels, config.embed_dim, kernel=kernel, stride=stride, padding=padding)


def build_stem(config: CascadeConfig) -> Stem | None:
    """The shared stem; None when every stage embeds the image separately."""
    return Stem(config.embedding) if isinstance(config.embedding, HybridEmbeddingConfig) else None


def sinusoid_positions(num_tokens: int, dim: int) -> Tensor:
    """Fixed position embeddings: sines at even channels, cosines at odd ones.

    The angle of token p at channel i is p / 10000^(2 floor(i / 2) / dim); the class token is p = 0.

    Shape: -> [N, D], float64

    Source: arXiv 1706.03762, section 3.5.
    """
    token = torch.arange(num_tokens, dtype=torch.float64)[:, None]
    channel = torch.arange(dim)
    angle = token / 10000 ** (2 * (channel // 2).double() / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
