"""Tiny cascades of each kind, seeded."""

from dataclasses import replace

import torch

from models.cascade import Cascade
from models.config import (
    CascadeConfig,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    LookConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
    TokensToTokenConfig,
    TrunkConfig,
    TrunkEmbeddingConfig,
)

TINY = CascadeConfig(
    image_size=28,
    num_classes=5,
    embed_dim=12,
    depth=2,
    num_heads=3,
    mlp_ratio=2.0,
    embedding=HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1)),
    feature_reuse=FeatureReuseConfig(hidden_dim=8, out_dim=4),
    relation_reuse=RelationReuseConfig(expansion=2),
)

TINY_T2T = replace(
    TINY,
    grids=(2, 4, 7),
    qkv_bias=False,
    norm_eps=1e-5,
    positions="sinusoid",
    embedding=TokensToTokenConfig(token_dim=6, num_features=4, first_splits=((2, 7, 4, 2), (4, 3, 2, 1), (7, 3, 1, 1))),
)

_SMALL_TRUNK = TrunkConfig(width=0.3, depth=0.4, stem_channels=8, head_channels=24)
TINY_LOOKS = replace(
    TINY,
    logit_reuse=True,
    image_size=63,
    grids=(2, 3, 4),
    embedding=TrunkEmbeddingConfig(
        looks=(
            LookConfig(px=32, trunk=_SMALL_TRUNK),
            LookConfig(px=49, trunk=_SMALL_TRUNK),
            LookConfig(px=63, strides=(16, 32), trunk=replace(_SMALL_TRUNK, depth=0.6)),
        )
    ),
)

PLAIN_VIT = CascadeConfig(
    image_size=56,
    num_classes=5,
    embed_dim=24,
    depth=2,
    num_heads=3,
    mlp_ratio=2.0,
    grids=(14,),
    feature_reuse=None,
    relation_reuse=None,
)

TINY_CONFIGS = {
    "hybrid": TINY,
    "residual_stem": replace(TINY, embedding=HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), blocks=(1, 2))),
    "deeper_maps": replace(
        TINY, embedding=HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), stage_blocks=(0, 1, 0, 2))
    ),
    "unshuffled_maps": replace(
        TINY, embedding=HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), stage_blocks=(0, 1, 0, 2), unshuffle=2)
    ),
    "patch": replace(TINY, embedding=PatchEmbeddingConfig()),
    "features_only": replace(TINY, relation_reuse=None),
    "relations_only": replace(TINY, feature_reuse=None),
    "no_reuse": replace(TINY, feature_reuse=None, relation_reuse=None),
    "logits_only": replace(TINY, feature_reuse=None, relation_reuse=None, logit_reuse=True),
    "authors_grids": replace(TINY, grids=(7, 10, 14), image_size=56, embedding=PatchEmbeddingConfig()),
    "t2t": TINY_T2T,
    "looks": TINY_LOOKS,
}


def randomised(config: CascadeConfig, seed: int = 0) -> Cascade:
    """A cascade in eval mode in which nothing is zero or at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    cascade = Cascade(config).eval()
    with torch.no_grad():
        for name, tensor in cascade.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                if name.endswith("running_var"):
                    tensor.copy_(0.5 + noise.abs())
                elif tensor.ndim < 2:
                    tensor.copy_(("norm" in name and name.endswith("weight")) + 0.2 * noise)
                else:
                    tensor.copy_(noise * (tensor[0].numel() ** -0.5 if tensor.ndim > 3 else 0.4))
    return cascade


def timm_weights(vit: Cascade) -> dict[str, torch.Tensor]:
    """The weights of a cascade of one plain stage under timm's names."""
    return {
        key.removeprefix("stages.0.").replace("embedding.", "patch_embed."): value
        for key, value in vit.state_dict().items()
    }
