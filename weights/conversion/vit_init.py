"""A plain ViT in timm's names as the start of a cascade: the last stage's weights, resampled for the other grids.

Shapes: C image channels, D embedding, P and Q sides of a patch in pixels, G and T grids, F reused feature channels.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from models.cascade import Cascade
from models.config import CascadeConfig, ConfigError
from weights.conversion.authors import mlp_ratio
from weights.conversion.foreign import Checkpoint, ConversionError, verify

_GRID = 14


def is_vit(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of a plain ViT or DeiT in timm."""
    return {"cls_token", "patch_embed.proj.weight"} <= checkpoint.tensors.keys()


def vit_architecture(checkpoint: Checkpoint, heads: int | None) -> CascadeConfig:
    """The cascade of grids 2, 4, 7 and 14 whose last stage is this ViT.

    Args:
        heads: attention heads; no tensor's shape depends on them.

    Raises:
        ConversionError: when the heads are not given, or it is not a ViT of 14 x 14 patches and a class token.
    """
    embed_dim, _, kernel, _ = checkpoint.shape("patch_embed.proj.weight", 4)
    tokens = checkpoint.shape("pos_embed", 3)[1]
    if tokens != _GRID**2 + 1:
        raise ConversionError(
            f"pos_embed: expected {_GRID**2 + 1} positions, {_GRID}x{_GRID} patches and a class token; found {tokens}"
        )
    if heads is None:
        raise ConversionError(
            f"the number of heads is not in the file: give it with --heads (ViTs usually have embed_dim / 64, "
            f"here {embed_dim / 64:g})"
        )
    layers = {key.split(".")[1] for key in checkpoint.tensors if key.startswith("blocks.")}
    try:
        return CascadeConfig(
            image_size=kernel * _GRID,
            num_classes=checkpoint.shape("head.weight", 2)[0],
            embed_dim=embed_dim,
            depth=len(layers),
            num_heads=heads,
            mlp_ratio=mlp_ratio(embed_dim, checkpoint.shape("blocks.0.mlp.fc1.weight", 2)[0]),
            qkv_bias="blocks.0.attn.qkv.bias" in checkpoint.tensors,
        )
    except ConfigError as error:
        raise ConversionError(f"the shapes do not make an architecture: {error}") from error


def initial_cascade(checkpoint: Checkpoint, config: CascadeConfig) -> Cascade:
    """A cascade in which every stage starts as this ViT. It must be trained before use.

    The reuse modules are drawn from a fixed seed; at first they do not change the result.

    Raises:
        ConversionError: when a tensor is missing, of another shape, or has no place.
    """
    with torch.device("meta"):
        plain = Cascade(config.plain()).state_dict()
    verify(checkpoint.tensors, {_timm_name(key): value.shape for key, value in plain.items()})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cascade = Cascade(config).eval()
    state = cascade.state_dict()
    for stage, grid in enumerate(config.grids):
        for key in plain:
            name = f"stages.{stage}.{key.removeprefix('stages.0.')}"
            value = checkpoint.tensors[_timm_name(key)]
            if key.endswith("embedding.proj.weight"):
                value = resample_patch(value, state[name].shape[-1])
            elif key.endswith("pos_embed"):
                value = resample_positions(value, grid)
            elif state[name].shape != value.shape:
                value = _widened(value, key, state[name].shape[-1])
            state[name] = value
    cascade.load_state_dict(state)
    return cascade


def resample_patch(weight_DCPP: Tensor, size: int) -> Tensor:
    """A patch projection for another patch size: its output for an enlarged patch is that for the original patch.

    Shape: [D, C, P, P] -> [D, C, Q, Q]

    Source: FlexiViT, arXiv 2212.08013, section 3.4 (pseudo-inverse of the bilinear resize).
    """
    source = weight_DCPP.shape[-1]
    resize_QP = F.interpolate(torch.eye(source, dtype=torch.float64)[None], size=size, mode="linear")[0].T
    inverse_PQ = torch.linalg.pinv(resize_QP)
    resampled: Tensor = inverse_PQ.T @ weight_DCPP.double() @ inverse_PQ
    return resampled.to(weight_DCPP.dtype)


def resample_positions(positions_1ND: Tensor, grid: int) -> Tensor:
    """Position embeddings of another grid, bicubic; the class token's is kept.

    Shape: [1, G² + 1, D] -> [1, T² + 1, D]
    """
    source = round((positions_1ND.shape[1] - 1) ** 0.5)
    if source == grid:
        return positions_1ND
    maps = rearrange(positions_1ND[:, 1:], "one (h w) d -> one d h w", h=source)
    maps = F.interpolate(maps, size=grid, mode="bicubic", antialias=True)
    return torch.cat([positions_1ND[:, :1], rearrange(maps, "one d h w -> one (h w) d")], dim=1)


def _widened(value: Tensor, key: str, width: int) -> Tensor:
    """A tensor of the block's MLP input, extended for the reused features so that they do not change the result yet.

    The features start near zero and reduce the variance that the norm divides by; the norm's weight compensates.
    """
    old = value.shape[-1]
    match key.split(".")[-3:]:
        case [_, "norm2", "weight"]:
            return torch.cat([value * sqrt(old / width), torch.ones(width - old)])
        case _:
            return F.pad(value, (0, width - old))


def _timm_name(key: str) -> str:
    return key.removeprefix("stages.0.").replace("embedding.", "patch_embed.", 1)
