"""An EfficientNet-Lite as it is published, independent of `models`: random weights and the forward pass."""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import TrunkConfig
from weights.conversion.lite_names import LiteNames

# (expansion, channels, repeats, stride, kernel) of the published family, written out once more.
_PUBLISHED = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
SMALL = TrunkConfig(width=0.25, depth=0.5, stem_channels=16, head_channels=24)
"""A member of the family that is quick to run."""


def published(config: TrunkConfig, names: LiteNames, num_classes: int = 7, *, empty: bool = False) -> dict[str, Tensor]:
    """Weights under published names; random, so that each tensor differs, or empty of any content."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.empty(1).expand(shape) if empty else torch.randn(shape, generator=generator) * scale

    shapes = [(config.stem_channels, 3, 3)]
    for geometry in config.blocks():
        width = geometry.in_channels * geometry.expansion
        shapes += [(width, geometry.in_channels, 1)] if geometry.expansion > 1 else []
        shapes += [(width, 1, geometry.kernel), (geometry.out_channels, width, 1)]
    shapes.append((config.head_channels, config.blocks()[-1].out_channels, 1))
    tensors = {}
    for (convolution, norm), (outputs, inputs, kernel) in zip(names.convolutions, shapes, strict=True):
        scale = (inputs * kernel**2) ** -0.5
        tensors[f"{convolution}.weight"] = tensor(outputs, inputs, kernel, kernel, scale=scale)
        tensors[f"{norm}.weight"] = 1 + tensor(outputs, scale=0.1)
        tensors[f"{norm}.bias"] = tensor(outputs, scale=0.5)
        tensors[f"{norm}.running_mean"] = tensor(outputs, scale=0.1)
        tensors[f"{norm}.running_var"] = 0.5 + tensor(outputs, scale=0.5).abs()
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(3)
    tensors[f"{names.classifier}.weight"] = tensor(num_classes, config.head_channels, scale=0.3)
    tensors[f"{names.classifier}.bias"] = tensor(num_classes)
    return tensors


@torch.inference_mode()
def published_logits(tensors: dict[str, Tensor], config: TrunkConfig, images: Tensor) -> Tensor:
    """The published network, from the PyPI packages' names and its paper alone."""

    def layer(x: Tensor, convolution: str, norm: str, *, stride: int = 1, linear: bool = False) -> Tensor:
        weight = tensors[f"{convolution}.weight"]
        kernel, side = weight.shape[-1], x.shape[-1]
        total = max((ceil(side / stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        statistics = [tensors[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *statistics, eps=1e-3)
        return x if linear else F.relu6(x)

    x = layer(images, "_conv_stem", "_bn0", stride=2)
    index = 0
    for group, (expansion, _, repeats, stride, _) in enumerate(_PUBLISHED):
        for repeat in range(repeats if group in (0, len(_PUBLISHED) - 1) else ceil(repeats * config.depth)):
            block, y = f"_blocks.{index}", x
            if expansion > 1:
                y = layer(y, f"{block}._expand_conv", f"{block}._bn0")
            y = layer(y, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride if repeat == 0 else 1)
            y = layer(y, f"{block}._project_conv", f"{block}._bn2", linear=True)
            x = y + x if repeat > 0 else y
            index += 1
    pooled = layer(x, "_conv_head", "_bn1").mean(dim=(2, 3))
    return F.linear(pooled, tensors["_fc.weight"], tensors["_fc.bias"])
