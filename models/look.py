"""The embedding of a stage that looks at the image with a pretrained trunk, at a resolution of its own.

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
    """Makes the tokens of a grid out of a map: each cell is normalised and projected, then resampled to the grid."""

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
    """Shows a smaller image to a trunk: its maps become tokens, its pooled features go straight to the exit."""

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
        """The same for images that the trunk has seen already.

        Shape: maps [B, C, s, s], pooled [B, F] -> tokens [B, G², D], features [B, F]
        """
        tokens_BND, *others = (cut(x) for cut, x in zip(self.tokens, seen.maps, strict=True))
        for other_BND in others:
            tokens_BND = tokens_BND + other_BND
        return Embedded(tokens_BND, seen.pooled)


def look_at(images: Tensor, px: int) -> Tensor:
    """The images made smaller, antialiased, in the type they come in: pixels of 8 bits stay such.

    Shape: [B, 3, S, S] -> [B, 3, P, P]
    """
    if images.shape[-1] == px:
        return images
    # 8 bits have a fast kernel on a CPU and none on a GPU; no half precision has one on every device.
    direct = images.dtype in (torch.float32, torch.float64) or (images.dtype == torch.uint8 and not images.is_cuda)
    smaller = F.interpolate(
        images if direct else images.float(), size=(px, px), mode="bilinear", antialias=True, align_corners=False
    )
    if images.dtype == torch.uint8 and not direct:
        smaller = smaller.round().clamp(0, 255)
    return smaller.to(images.dtype)
