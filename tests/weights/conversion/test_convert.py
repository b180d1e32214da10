import json
from pathlib import Path

import pytest
import torch
from cascades import PLAIN_VIT, randomised, timm_weights
from parity import FOLDERS, KEPT, SHARED, converted_model, golden, weights_of, write_released
from torch import Tensor

from weights import ModelFormatError, load, load_model
from weights.conversion.classes import class_names
from weights.conversion.convert import convert, summary
from weights.conversion.foreign import ConversionError
from weights.preprocessing import Preprocessing

NAME = "t2t_reduced_relation"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return weights_of(KEPT, NAME)


@torch.inference_mode()
def test_convert_released_layout_serves_the_authors_logits(tmp_path: Path) -> None:
    expected = converted_model(tmp_path / "model")
    for stage, logits in enumerate(load_model(tmp_path / "model")(expected.images)):
        torch.testing.assert_close(logits, expected.values[f"logits.{stage}"], atol=2e-5, rtol=0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the complete parity data, ../shared/parity, is not here")
@pytest.mark.parametrize("prefix", ["", "_module_prefix"])
@torch.inference_mode()
def test_convert_shared_released_files_serve_the_authors_logits(tmp_path: Path, prefix: str) -> None:
    conversion = convert(SHARED / f"reduced_deit_released_style{prefix}.pth.tar", tmp_path / "model")
    assert conversion.ready
    assert len(conversion.manifest.operating_points) == 59
    assert conversion.manifest.architecture.grids == (7, 10, 14)
    expected = golden(SHARED, "deit_reduced_full")
    for stage, logits in enumerate(load_model(tmp_path / "model")(expected.images)):
        torch.testing.assert_close(logits, expected.values[f"logits.{stage}"], atol=2e-5, rtol=0)


def test_convert_keeps_what_the_checkpoint_knows(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = write_released(tmp_path / "a.pth.tar", weights)
    convert(path, tmp_path / "model")
    manifest = load(tmp_path / "model").manifest
    document = torch.load(path, weights_only=True)
    for row, point in enumerate(manifest.operating_points):
        assert point.name == f"budget-{row + 1}"
        assert point.thresholds == tuple(document["dynamic_threshold"][row, :2].tolist())
        gmacs, percent = (column[row] for column in document["budgeted_batch_classification"])
        assert (point.accuracy, point.mean_macs) == (percent / 100, gmacs * 1e9)
    assert manifest.thresholds in [point.thresholds for point in manifest.operating_points]
    assert manifest.provenance["stated_by_authors"]["exit_top1"] == pytest.approx([0.3925, 0.51, 0.6645])
    assert manifest.provenance["converted_from"]["file"] == "a.pth.tar"
    assert manifest.preprocessing == Preprocessing(resize_px=256, crop_px=224)
    assert manifest.temperatures == (1.0, 1.0, 1.0)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "budget-1 to budget-59" in card
    assert "| 0 | 7x7 |" in card
    assert "Nothing was trained or measured here" in card


@pytest.mark.parametrize("bare", [True, False])
def test_convert_without_tables_never_leaves_early(tmp_path: Path, weights: dict[str, Tensor], bare: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save(weights if bare else {"model_state_dict": weights}, path)
    conversion = convert(path, tmp_path / "model")
    assert conversion.manifest.operating_points == ()
    assert min(conversion.manifest.thresholds) > 1
    assert "no thresholds" in summary(conversion, tmp_path / "model")
    assert "has no thresholds" in (tmp_path / "model" / "README.md").read_text()


def test_convert_class_names_are_imagenet_s_or_of_a_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    widened = {key: value.repeat_interleave(100, dim=0) if ".head." in key else value for key, value in weights.items()}
    (tmp_path / "names.json").write_text(json.dumps(list("abcdefghij")))
    for tensors, file, expected in (
        (widened, None, class_names(1000)),
        (weights, tmp_path / "names.json", tuple("abcdefghij")),
    ):
        torch.save(tensors, tmp_path / "a.pth")
        conversion = convert(tmp_path / "a.pth", tmp_path / "model", class_names_file=file)
        assert conversion.manifest.class_names == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_convert_without_relations_needs_heads(tmp_path: Path, folder: Path) -> None:
    torch.save(weights_of(folder, "t2t_reduced_none"), tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="--heads"):
        convert(tmp_path / "a.pth", tmp_path / "model")
    assert convert(tmp_path / "a.pth", tmp_path / "model", heads=2).manifest.architecture.relation_reuse is None


@pytest.mark.parametrize(
    "broken",
    [
        {"model_state_dict": {"fc.weight": torch.ones(2)}},
        {"dynamic_threshold": torch.zeros(3, 2)},
        {"flops": "many"},
        {"flops": [1.0]},
    ],
)
def test_convert_bad_checkpoint_leaves_nothing_behind(
    tmp_path: Path, weights: dict[str, Tensor], broken: dict[str, object]
) -> None:
    path = write_released(tmp_path / "a.pth", weights, **broken)
    with pytest.raises(ConversionError, match="expected"):
        convert(path, tmp_path / "models" / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_convert_missing_tensor_leaves_an_older_model_alone(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "model")
    before = (tmp_path / "model" / "SHA256SUMS").read_text()
    torch.save(weights | {"normal_token.extra": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(ConversionError, match=r"normal_token\.extra"):
        convert(tmp_path / "b.pth", tmp_path / "model")
    assert (tmp_path / "model" / "SHA256SUMS").read_text() == before


def test_convert_into_another_folder_refuses_before_reading(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(ModelFormatError, match="photos exists and is not a model folder"):
        convert(tmp_path / "nowhere.pth", tmp_path / "photos")


def test_convert_plain_vit_says_it_must_be_trained(tmp_path: Path) -> None:
    torch.save({"model": timm_weights(randomised(PLAIN_VIT))}, tmp_path / "deit.pth")
    conversion = convert(tmp_path / "deit.pth", tmp_path / "start", heads=3)
    assert not conversion.ready
    assert f"--init {tmp_path / 'start'}" in summary(conversion, tmp_path / "start")
    stored = load(tmp_path / "start")
    assert "train before use" in stored.manifest.provenance["warning"]
    assert "**Not trained: train it before use.**" in (tmp_path / "start" / "README.md").read_text()
    assert stored.manifest.preprocessing == Preprocessing(resize_px=64, crop_px=56)
