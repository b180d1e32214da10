"""The reuse state that one stage hands to the next, and the modules that read it.

Shapes: B batch, N tokens of this stage, M tokens of the stage before, D embedding, H heads, L layers, R = L x H
relation channels (layer-major), K classes, F reused feature channels, s and t grids of the stage before and of this
one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.config import CascadeConfig, FeatureReuseConfig, RelationReuseConfig
from models.layers import Mlp, RelationBias
from models.resampling import Resampling, token_resampling


@dataclass(frozen=True, slots=True)
class ReuseState:
    """What a stage hands to the next for a batch of images. Parts that the configuration does not reuse are None.

    Attributes:
        tokens: the last block's tokens before the final norm, [B, N, D].
        relations: the relations of all layers, [B, R, N, N].
        logits: of the exit, [B, K].
        feature_map: the shared stem's map after this stage's residual blocks, [B, channels, side, side].
    """

    tokens: Tensor | None = None
    relations: Tensor | None = None
    logits: Tensor | None = None
    feature_map: Tensor | None = None


class FeatureReuse(nn.Module):
    """One block's view of the upstream tokens: LayerNorm, MLP, resampling; zero for the class token.

    Source: arXiv 2105.15075, section 3.2.
    """

    def __init__(self, config: CascadeConfig, reuse: FeatureReuseConfig, source: int, target: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = Mlp(config.embed_dim, reuse.hidden_dim, reuse.out_dim)
        self.resampling = Resampling(token_resampling(source, target, class_token=False))

    def forward(self, upstream_BMD: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Features for one block.

        Args:
            class_token_only: return only the class token's features; they are zeros and cost nothing.

        Shape: [B, M, D] -> [B, N, F], or [B, 1, F] for the class token only
        """
        if class_token_only:
            return upstream_BMD.new_zeros(upstream_BMD.shape[0], 1, self.mlp.fc2.out_features)
        features_BMF: Tensor = self.mlp(self.norm(upstream_BMD))
        resampled_BNF: Tensor = self.resampling(features_BMF)
        return resampled_BNF


class RelationReuse(nn.Module):
    """One stage's joint MLP over the channels of all upstream relations, at every (query, key) position.

    Source: arXiv 2105.15075, section 3.2.
    """

    def __init__(self, config: CascadeConfig, reuse: RelationReuseConfig, source: int, target: int) -> None:
        super().__init__()
        self.depth = config.depth
        channels = config.num_relations
        self.fc1 = nn.Conv2d(channels, reuse.expansion * channels, kernel_size=1)
        self.fc2 = nn.Conv2d(reuse.expansion * channels, channels, kernel_size=1)
        self.resampling = Resampling(token_resampling(source, target, class_token=True))

    def forward(self, upstream_BRMM: Tensor) -> Sequence[RelationBias]:
        """The factored bias of every layer.

        Shape: [B, R, M, M] -> L biases of [B, H, M, M]
        """
        # Matrix products over all positions: a 1x1 convolution with so few channels takes twice as long on a CPU.
        upstream = rearrange(upstream_BRMM, "b r q k -> r (b q k)")
        mixed = _pointwise(self.fc2, F.gelu(_pointwise(self.fc1, upstream)))
        b, m = upstream_BRMM.shape[0], upstream_BRMM.shape[-1]
        per_layer = rearrange(mixed, "(l h) (b q k) -> l b h q k", l=self.depth, b=b, q=m)
        return [RelationBias(relations_BHMM, self.resampling.matrix_NM) for relations_BHMM in per_layer]


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution; input and output have one row per channel.

    Shape: [in_channels, positions] -> [out_channels, positions]
    """
    assert conv.bias is not None
    return torch.addmm(conv.bias[:, None], rearrange(conv.weight, "o i 1 1 -> o i"), x)
