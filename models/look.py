"""The embedding of a stage that reads the image with a pretrained trunk at the stage's own resolution.

Shapes: B batch, S image side, P side of the look, C channels of a map, s its side, G grid, D embedding, F channels of
the pooled features.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.embedded import Embedded
from models.resampling import Resampling, grid_resampling
from models.trunk import Trunk, TrunkOutput
from models.trunk_config import LookConfig


class MapTokens(nn.Module):
    """Turns a map into the tokens of a grid: normalise and project each cell, then resample to the grid."""

    def __init__(self, channels: int, side: int, grid: int, dim: int, *, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=norm_eps)
        self.proj = nn.Linear(channels, dim)
        self.resampling = None if side == grid else Resampling(grid_resampling(side, grid))

    def forward(self, x: Tensor) -> Tensor:
        """Apply.

        Shape: [B, C, s, s] -> [B, G², D]
        """
        cells: Tensor = self.proj(self.norm(rearrange(x, "b c h w -> b (h w) c")))
        return cells if self.resampling is None else self.resampling(cells)


class LookEmbedding(nn.Module):
    """Runs a trunk on a smaller image: its maps become tokens, its pooled features go directly to the exit."""

    def __init__(self, look: LookConfig, dim: int, grid: int, *, norm_eps: float) -> None:
        super().__init__()
        self.px = look.px
        self.trunk = Trunk(look.trunk, look.strides)
        self.tokens = nn.ModuleList(
            MapTokens(channels, side, grid, dim, norm_eps=norm_eps) for channels, side in look.maps()
        )

    def forward(self, images: Tensor) -> Embedded:
        """Embed.

        Shape: [B, 3, S, S] -> tokens [B, G², D], features [B, F]
        """
        return self.embed(self.trunk(look_at(images, self.px)))

    def embed(self, seen: TrunkOutput) -> Embedded:
        """Embed maps and features that the trunk has computed already.

        Shape: maps [B, C, s, s], pooled [B, F] -> tokens [B, G², D], features [B, F]
        """
        tokens_BND, *others = (cut(x) for cut, x in zip(self.tokens, seen.maps, strict=True))
        for other_BND in others:
            tokens_BND = tokens_BND + other_BND
        return Embedded(tokens_BND, seen.pooled)


def look_at(images: Tensor, px: int) -> Tensor:
    """Downscale images with antialiasing; the dtype stays the same, uint8 included.

    Shape: [B, 3, S, S] -> [B, 3, P, P]
    """
    if images.shape[-1] == px:
        return images
    # A CPU has a fast kernel for uint8 and a GPU has none; half precision lacks one on some devices.
    direct = images.dtype in (torch.float32, torch.float64) or (images.dtype == torch.uint8 and not images.is_cuda)
    smaller = F.interpolate(
        images if direct else images.float(), size=(px, px), mode="bilinear", antialias=True, align_corners=False
    )
    if images.dtype == torch.uint8 and not direct:
        smaller = smaller.round().clamp(0, 255)
    return smaller.to(images.dtype)
