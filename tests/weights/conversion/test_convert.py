import json
from pathlib import Path

import pytest
import torch
from cascades import PLAIN_VIT, randomised, timm_weights
from parity import KEPT, Golden, converted_model, weights_of, write_released
from torch import Tensor

from weights import ModelFormatError, load
from weights.conversion.classes import class_names
from weights.conversion.convert import convert, summary
from weights.conversion.foreign import ConversionError
from weights.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return weights_of(KEPT, "t2t_reduced_relation")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Golden]:
    """The folder of a converted model, not to be changed, and the model's reference outputs."""
    folder = tmp_path_factory.mktemp("converted") / "model"
    return folder, converted_model(folder)


@torch.inference_mode()
def test_convert_released_layout_serves_the_authors_logits(converted: tuple[Path, Golden]) -> None:
    folder, expected = converted
    for stage, logits in enumerate(load(folder).cascade(expected.images)):
        torch.testing.assert_close(logits, expected.values[f"logits.{stage}"], atol=2e-5, rtol=0)


def test_convert_keeps_what_the_checkpoint_knows(converted: tuple[Path, Golden]) -> None:
    folder, _ = converted
    manifest = load(folder).manifest
    document = torch.load(folder.with_suffix(".pth.tar"), weights_only=True)
    for row, point in enumerate(manifest.operating_points):
        assert point.name == f"budget-{row + 1}"
        assert point.thresholds == tuple(document["dynamic_threshold"][row, :2].tolist())
        gmacs, percent = (column[row] for column in document["budgeted_batch_classification"])
        assert (point.accuracy, point.mean_macs) == (percent / 100, gmacs * 1e9)
    assert manifest.thresholds in [point.thresholds for point in manifest.operating_points]
    stated = manifest.provenance["stated_by_authors"]
    assert stated["exit_top1"] == pytest.approx([0.3925, 0.51, 0.6645])
    assert stated["exit_macs"] == [gmacs * 1e9 for gmacs in document["flops"]]
    assert manifest.provenance["converted_from"]["file"] == "model.pth.tar"
    assert manifest.preprocessing == Preprocessing(resize_px=256, crop_px=224)
    assert manifest.temperatures == (1.0, 1.0, 1.0)
    card = (folder / "README.md").read_text()
    for text in ("budget-1 to budget-59", "| 0 | 7x7 |", "Nothing was trained or measured here"):
        assert text in card


def test_convert_without_tables_never_leaves_early(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "a.pth")
    conversion = convert(tmp_path / "a.pth", tmp_path / "model")
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


def test_convert_without_relations_needs_heads(tmp_path: Path) -> None:
    torch.save(weights_of(KEPT, "t2t_reduced_none"), tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="--heads"):
        convert(tmp_path / "a.pth", tmp_path / "model")
    assert convert(tmp_path / "a.pth", tmp_path / "model", heads=2).manifest.architecture.relation_reuse is None


@pytest.mark.parametrize(
    "broken",
    [{"model_state_dict": {"fc.weight": torch.ones(2)}}, {"dynamic_threshold": torch.zeros(3, 2)}, {"flops": [1.0]}],
)
def test_convert_bad_checkpoint_leaves_nothing_behind(
    tmp_path: Path, weights: dict[str, Tensor], broken: dict[str, object]
) -> None:
    path = write_released(tmp_path / "a.pth", weights, **broken)
    with pytest.raises(ConversionError, match="expected"):
        convert(path, tmp_path / "models" / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


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
