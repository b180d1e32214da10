"""Attention, MLP and the pre-norm block, with upstream features and relations as explicit inputs.

Shapes: B batch, N tokens (class token first), Q tokens whose result is computed (all, or the class token alone),
M upstream tokens, D embedding, H heads, C head channels, F reused feature channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.config import CascadeConfig


class RelationBias(NamedTuple):
    """A reused attention bias V R Vᵀ, kept as factors so that the [N, N] matrix is never built.

    Attributes:
        relations_BHMM: R, the transformed upstream relations of one layer.
        resampling_NM: V, the constant resampling matrix, class token carried over.
    """

    relations_BHMM: Tensor
    resampling_NM: Tensor


class AttentionOutput(NamedTuple):
    """Result of `Attention`.

    Attributes:
        tokens_BND: the attended tokens after projection; only the class token if `class_token_only`.
        relations_BHNN: attention logits before softmax, reused bias included; None unless `return_relations`.
    """

    tokens_BND: Tensor
    relations_BHNN: Tensor | None


class FoldableConv(nn.Module):
    """A convolution with a batch norm behind it, which `fold` merges into the convolution for inference; base class."""

    conv: nn.Conv2d
    norm: nn.Module

    def fold(self) -> None:
        """Merge the norm's running statistics into the convolution; a second call does nothing."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the last axis.

        Shape: [..., in_dim] -> [..., out_dim]
        """
        output: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return output


class Attention(nn.Module):
    """Multi-head self-attention whose logits may carry a reused bias.

    Source: relation reuse of arXiv 2105.15075, section 3.2. The bias is folded into the product,
    q kᵀ + V R Vᵀ = [q | V R] [k | V]ᵀ, which is exact and needs no [N, N] tensor per head and layer.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x_BND: Tensor,
        bias: RelationBias | None = None,
        *,
        class_token_only: bool = False,
        return_relations: bool = False,
    ) -> AttentionOutput:
        """Attend to all tokens.

        Args:
            class_token_only: attend from the class token alone.
            return_relations: return them for all tokens, in either case.

        Shape: [B, N, D] -> [B, Q, D], relations [B, H, N, N]
        """
        wanted = slice(1 if class_token_only else None)
        q, k, v = self._projected(x_BND, class_token_only=class_token_only and not return_relations)
        q = q * self.scale
        if bias is not None:
            v_NM = bias.resampling_NM.to(q.dtype)
            q = torch.cat([q, v_NM[: q.shape[2]] @ bias.relations_BHMM.to(q.dtype)], dim=-1)
            k = torch.cat([k, repeat(v_NM, "n m -> b h n m", b=k.shape[0], h=k.shape[1])], dim=-1)
        relations = None
        # Fused kernels do not return the logits, and on a CPU they are slower than plain products.
        if return_relations or not x_BND.is_cuda:
            relations = q @ k.transpose(-2, -1)
            attended = relations[:, :, wanted].softmax(dim=-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        output = self.proj(rearrange(attended, "b h n c -> b n (h c)"))
        return AttentionOutput(output, relations if return_relations else None)

    def _projected(self, x_BND: Tensor, *, class_token_only: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of all tokens or of the class token, keys and values of all.

        Shape: [B, N, D] -> q [B, H, N or 1, C], k and v [B, H, N, C]
        """
        heads = {"h": self.num_heads}
        if not class_token_only:
            q, k, v = rearrange(self.qkv(x_BND), "b n (three h c) -> three b h n c", three=3, **heads)
            return q, k, v
        dim, weight, bias = x_BND.shape[-1], self.qkv.weight, self.qkv.bias
        q_B1D = F.linear(x_BND[:, :1], weight[:dim], None if bias is None else bias[:dim])
        keys_values = F.linear(x_BND, weight[dim:], None if bias is None else bias[dim:])
        k, v = rearrange(keys_values, "b n (two h c) -> two b h n c", two=2, **heads)
        return rearrange(q_B1D, "b n (h c) -> b h n c", **heads), k, v


class Block(nn.Module):
    """Pre-norm transformer block; reused features join after attention, before the second norm.

    Args:
        reused_dim: channels of the reused features, 0 for none.

    Attributes:
        drop_path: share of images for which a training step skips a branch (stochastic depth); 0 outside training.
    """

    def __init__(self, config: CascadeConfig, reused_dim: int) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.norm_eps
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, config.num_heads, qkv_bias=config.qkv_bias)
        self.norm2 = nn.LayerNorm(dim + reused_dim, eps=eps)
        self.mlp = Mlp(dim + reused_dim, config.mlp_hidden_dim, dim)
        self.drop_path = 0.0

    def forward(
        self,
        x_BND: Tensor,
        reused_BQF: Tensor | None = None,
        bias: RelationBias | None = None,
        *,
        class_token_only: bool = False,
        return_relations: bool = False,
    ) -> AttentionOutput:
        """Apply the block. The residual never contains the reused features.

        Args:
            class_token_only: compute only what the class token's result needs.
            return_relations: return them for all tokens, in either case.

        Shape: [B, N, D] -> [B, Q, D], relations [B, H, N, N]
        """
        attended_BQD, relations = self.attn(
            self.norm1(x_BND), bias, class_token_only=class_token_only, return_relations=return_relations
        )
        x_BQD = (x_BND[:, :1] if class_token_only else x_BND) + self._drop(attended_BQD)
        mlp_input = x_BQD if reused_BQF is None else torch.cat([x_BQD, reused_BQF], dim=-1)
        return AttentionOutput(x_BQD + self._drop(self.mlp(self.norm2(mlp_input))), relations)

    def _drop(self, branch_BQD: Tensor) -> Tensor:
        """Zero the branch for some images and scale it up for the others, so that its mean stays.

        Source: arXiv 1603.09382.
        """
        if not self.training or self.drop_path == 0:
            return branch_BQD
        keep = torch.rand(branch_BQD.shape[0], 1, 1, device=branch_BQD.device) >= self.drop_path
        return branch_BQD * keep / (1 - self.drop_path)
