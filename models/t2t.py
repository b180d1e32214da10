"""Tokens-to-token embedding: overlapping splits of the image, with a performer layer after the first and the second.

Shapes: B batch, S image side in pixels, G grid, T tokens of a layer, C channels of a split patch, E token
channels, P random features, D embedding.
"""

from contextlib import AbstractContextManager, nullcontext
from math import sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.config import TokensToTokenConfig
from models.embedded import Embedded
from models.embedding_config import SplitGeometry
from models.layers import Mlp

_DENOMINATOR_EPS = 1e-8


def performer_attention(q_BTE: Tensor, k_BTE: Tensor, v_BTE: Tensor, w_PE: Tensor) -> Tensor:
    """Attention whose softmax kernel is approximated by positive random features: linear cost in the tokens.

    The features span many orders of magnitude, and a denominator below the epsilon would pull the output to zero.
    They are therefore computed in float32 or better, whatever the precision of the model.

    Shape: q, k, v [B, T, E], w [P, E] -> [B, T, E]

    Source: arXiv 2009.14794, section 2.3.
    """
    exact = torch.promote_types(v_BTE.dtype, torch.float32)
    with _without_autocast(v_BTE.device.type):
        phi_q_BTP, phi_k_BTP = (_features(x_BTE.to(exact), w_PE.to(exact)) for x_BTE in (q_BTE, k_BTE))
        numerator_BTE = phi_q_BTP @ (phi_k_BTP.transpose(1, 2) @ v_BTE.to(exact))
        denominator_BT1 = phi_q_BTP @ phi_k_BTP.sum(dim=1).unsqueeze(-1)
        output_BTE: Tensor = numerator_BTE / (denominator_BT1 + _DENOMINATOR_EPS)
    return output_BTE.to(v_BTE.dtype)


def _features(x_BTE: Tensor, w_PE: Tensor) -> Tensor:
    """Shape: [B, T, E] -> [B, T, P]."""
    exponent_BTP = x_BTE @ w_PE.T - x_BTE.square().sum(dim=-1, keepdim=True) / 2
    return exponent_BTP.exp() / sqrt(w_PE.shape[0])


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class PerformerLayer(nn.Module):
    """A transformer layer with one head and linear cost; its skip connection adds the value, not the input.

    Source: arXiv 2101.11986, section 3.1, with the attention of arXiv 2009.14794.
    """

    def __init__(self, in_dim: int, dim: int, num_features: int, *, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.kqv = nn.Linear(in_dim, 3 * dim)
        self.w = nn.Parameter(torch.zeros(num_features, dim), requires_grad=False)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, dim, dim)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Apply.

        Shape: [B, T, C] -> [B, T, E]
        """
        k_BTE, q_BTE, v_BTE = self.kqv(self.norm1(x_BTC)).chunk(3, dim=-1)
        y_BTE = v_BTE + self.proj(performer_attention(q_BTE, k_BTE, v_BTE, self.w))
        output_BTE: Tensor = y_BTE + self.mlp(self.norm2(y_BTE))
        return output_BTE


class TokensToTokenOutput(NamedTuple):
    """Result of `TokensToToken.layers`, in raster order.

    Attributes:
        first_BTE: tokens after the first performer layer.
        second_BTE: tokens after the second.
        tokens_BTD: the embedding, G² tokens.
    """

    first_BTE: Tensor
    second_BTE: Tensor
    tokens_BTD: Tensor


class TokensToToken(nn.Module):
    """The embedding of T2T-ViT.

    Source: arXiv 2101.11986, section 3.1.
    """

    def __init__(self, config: TokensToTokenConfig, dim: int, grid: int, *, norm_eps: float) -> None:
        super().__init__()
        self.splits = config.splits(grid)
        dims = (3, config.token_dim, config.token_dim)
        in_dims = [split.kernel**2 * channels for split, channels in zip(self.splits, dims, strict=True)]
        self.attention1 = PerformerLayer(in_dims[0], config.token_dim, config.num_features, norm_eps=norm_eps)
        self.attention2 = PerformerLayer(in_dims[1], config.token_dim, config.num_features, norm_eps=norm_eps)
        self.project = nn.Linear(in_dims[2], dim)

    def forward(self, images: Tensor) -> Embedded:
        """The embedding without the intermediate tokens.

        Shape: [B, 3, S, S] -> [B, G², D]
        """
        return Embedded(self.layers(images).tokens_BTD)

    def layers(self, images: Tensor) -> TokensToTokenOutput:
        """The tokens after every layer.

        Shape: [B, 3, S, S] -> [B, T, E], [B, T, E], [B, G², D]
        """
        first, second, third = self.splits
        first_BTE = self.attention1(_split(images, first))
        second_BTE = self.attention2(_split(_as_map(first_BTE), second))
        return TokensToTokenOutput(first_BTE, second_BTE, self.project(_split(_as_map(second_BTE), third)))


def _split(x: Tensor, geometry: SplitGeometry) -> Tensor:
    """Patches as vectors of (channel, kernel row, kernel column).

    Shape: [B, channels, side, side] -> [B, T, C]
    """
    patches = F.unfold(x, geometry.kernel, stride=geometry.stride, padding=geometry.padding)
    return rearrange(patches, "b c t -> b t c")


def _as_map(tokens_BTE: Tensor) -> Tensor:
    """Shape: [B, T, E] -> [B, E, side, side]."""
    side = round(tokens_BTE.shape[1] ** 0.5)
    return rearrange(tokens_BTE, "b (h w) e -> b e h w", h=side)
