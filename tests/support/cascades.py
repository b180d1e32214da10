"""Tiny cascades of each kind, seeded."""

from dataclasses import replace

import torch

from models.cascade import Cascade
from models.config import (
    CascadeConfig,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
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

TINY_CONFIGS = {
    "hybrid": TINY,
    "patch": replace(TINY, embedding=PatchEmbeddingConfig()),
    "features_only": replace(TINY, relation_reuse=None),
    "relations_only": replace(TINY, feature_reuse=None),
    "no_reuse": replace(TINY, feature_reuse=None, relation_reuse=None),
    "authors_grids": replace(TINY, grids=(7, 10, 14), image_size=56, embedding=PatchEmbeddingConfig()),
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
                elif tensor.ndim == 1:
                    tensor.copy_(("norm" in name and name.endswith("weight")) + 0.2 * noise)
                else:
                    tensor.copy_(noise * (tensor[0].numel() ** -0.5 if tensor.ndim > 3 else 0.4))
    return cascade
