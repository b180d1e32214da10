"""The authors' released checkpoints: tensor names, and the architecture that the shapes imply."""

import math
import re
from dataclasses import replace

import torch

from models.cascade import Cascade
from models.config import (
    VARIANTS,
    CascadeConfig,
    ConfigError,
    FeatureReuseConfig,
    RelationReuseConfig,
    TokensToTokenConfig,
)
from weights.conversion.foreign import Checkpoint, ConversionError, verify

CHECKPOINT_STAGES = ("less_less_token", "less_token", "normal_token")
"""The authors' names of the stages at grids 7, 10 and 14."""

_RENAMED = (
    (r"^embedding\.proj\.", "patch_embed.proj."),
    (r"^embedding\.(attention\d)\.mlp\.fc1\.", r"tokens_to_token.\1.mlp.0."),
    (r"^embedding\.(attention\d)\.mlp\.fc2\.", r"tokens_to_token.\1.mlp.2."),
    (r"^embedding\.", "tokens_to_token."),
    (r"^feature_reuse\.(\d+)\.norm\.", r"blocks.\1.feature_resuse_mlp.0."),
    (r"^feature_reuse\.(\d+)\.mlp\.", r"blocks.\1.feature_resuse_mlp.1."),
    (r"^relation_reuse\.fc1\.", "relation_reuse_conv.0."),
    (r"^relation_reuse\.fc2\.", "relation_reuse_conv.2."),
)


def authors_name(key: str) -> str:
    """The authors' name of one of our tensors."""
    _, index, rest = key.split(".", 2)
    for pattern, replacement in _RENAMED:
        renamed, count = re.subn(pattern, replacement, rest)
        if count:
            rest = renamed
            break
    return f"{CHECKPOINT_STAGES[int(index)]}.{rest}"


def is_authors(checkpoint: Checkpoint) -> bool:
    """Whether the names are the authors'."""
    return any(key.split(".")[0] in CHECKPOINT_STAGES for key in checkpoint.tensors)


def authors_architecture(checkpoint: Checkpoint, heads: int | None = None) -> CascadeConfig:
    """The architecture implied by names and shapes.

    Args:
        heads: attention heads, required when relation reuse is off, because then no tensor's shape depends on them.

    Raises:
        ConversionError: when a required tensor is missing or has an impossible shape, or the heads are unknown.
    """
    first, second = CHECKPOINT_STAGES[:2]
    depth = _depth(checkpoint, f"{first}.blocks.")
    embed_dim = checkpoint.shape(f"{first}.cls_token", 3)[-1]
    hidden_dim = checkpoint.shape(f"{first}.blocks.0.mlp.fc1.weight", 2)[0]
    feature_reuse = relation_reuse = None
    if f"{second}.blocks.0.feature_resuse_mlp.1.fc1.weight" in checkpoint.tensors:
        feature_hidden = checkpoint.shape(f"{second}.blocks.0.feature_resuse_mlp.1.fc1.weight", 2)[0]
        feature_out = checkpoint.shape(f"{second}.blocks.0.feature_resuse_mlp.1.fc2.weight", 2)[0]
        feature_reuse = FeatureReuseConfig(hidden_dim=feature_hidden, out_dim=feature_out)
    if f"{second}.relation_reuse_conv.0.weight" in checkpoint.tensors:
        expanded, channels, *_ = checkpoint.shape(f"{second}.relation_reuse_conv.0.weight", 4)
        if channels % depth or expanded % channels:
            raise ConversionError(
                f"{second}.relation_reuse_conv.0.weight: expected channels in multiples of the depth {depth}, "
                f"found {channels} -> {expanded}"
            )
        relation_reuse = RelationReuseConfig(expansion=expanded // channels)
        if heads not in (None, channels // depth):
            raise ConversionError(
                f"the relation MLP has the channels of {channels // depth} heads, --heads says {heads}"
            )
        heads = channels // depth
    if heads is None:
        raise ConversionError("without relation reuse the number of heads is not in the file: give it with --heads")
    try:
        return replace(
            _family(checkpoint),
            num_classes=checkpoint.shape(f"{first}.head.weight", 2)[0],
            embed_dim=embed_dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_ratio(embed_dim, hidden_dim),
            qkv_bias=f"{first}.blocks.0.attn.qkv.bias" in checkpoint.tensors,
            feature_reuse=feature_reuse,
            relation_reuse=relation_reuse,
        )
    except ConfigError as error:
        raise ConversionError(f"the shapes do not make an architecture: {error}") from error


def authors_cascade(checkpoint: Checkpoint, config: CascadeConfig) -> Cascade:
    """The cascade, with every tensor of the file in its place.

    Raises:
        ConversionError: when a tensor is missing, of another shape, or has no place.
    """
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Cascade(config).state_dict().items()}
    verify(checkpoint.tensors, {authors_name(key): shape for key, shape in shapes.items()})
    cascade = Cascade(config).eval()
    cascade.load_state_dict({key: checkpoint.tensors[authors_name(key)] for key in shapes})
    return cascade


def mlp_ratio(embed_dim: int, hidden_dim: int) -> float:
    """The ratio from which `CascadeConfig` computes this hidden width."""
    ratio = hidden_dim / embed_dim
    return ratio if int(embed_dim * ratio) == hidden_dim else math.nextafter(ratio, math.inf)


def _family(checkpoint: Checkpoint) -> CascadeConfig:
    """The values that the family fixes and that no shape shows: grids, norm epsilon, kind of positions."""
    first = CHECKPOINT_STAGES[0]
    if f"{first}.patch_embed.proj.weight" in checkpoint.tensors:
        kernel = checkpoint.shape(f"{first}.patch_embed.proj.weight", 4)[-1]
        deit = VARIANTS["dvt_deit_small"]
        return replace(deit, image_size=kernel * deit.grids[0])
    tripled = checkpoint.shape(f"{first}.tokens_to_token.attention1.kqv.weight", 2)[0]
    num_features = checkpoint.shape(f"{first}.tokens_to_token.attention1.w", 2)[0]
    embedding = TokensToTokenConfig(token_dim=tripled // 3, num_features=num_features)
    return replace(VARIANTS["dvt_t2t_vit_12"], embedding=embedding)


def _depth(checkpoint: Checkpoint, prefix: str) -> int:
    layers = {key.removeprefix(prefix).split(".")[0] for key in checkpoint.tensors if key.startswith(prefix)}
    if not layers:
        raise ConversionError(f"expected tensors named {prefix}0.…, found none")
    return len(layers)
