import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cascades import TINY, randomised
from images import encode, two_colour_images, two_colour_parquet, write_parquet
from manifests import manifest_of
from rich.console import Console

from weights import load, save
from weights.calibration.assess import calibrate_model, evaluate_model
from weights.data import DataError
from weights.splitting import split

CONSOLE = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model folder, the data its provenance names)."""
    folder = tmp_path_factory.mktemp("assess")
    data = two_colour_parquet(folder / "train.parquet", 120, side=28, mislabelled=0.25)
    provenance = {
        "data": data.name,
        "split": split(two_colour_images(120, 28)[0], 0.4, 3).provenance(0.4, 3),
        "recipe": {"epochs": 1},
        **{"epochs_done": 1, "hours": 0.5, "hardware": "1 thread of a CPU", "date": "2026-01-01"},
    }
    config = replace(TINY, num_classes=2)
    manifest = manifest_of(config, class_names=("red", "blue"), provenance=provenance)
    save(folder / "tiny", randomised(manifest.architecture), manifest, "")
    _calibrate(folder / "tiny", data)
    return folder / "tiny", data


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "tiny"))


def _calibrate(model: Path, data: Path, *, half: bool = False, fresh: bool = False) -> None:
    calibrate_model(model, [data], accuracy_drop=0.005, half=half, fresh=fresh, device="cpu", console=CONSOLE)


def _two_colours(path: Path, count: int, seed: int, names: tuple[str, str] = ("red", "blue")) -> Path:
    images, labels = two_colour_images(count, 28, seed)
    return write_parquet(path, [encode(image) for image in images], labels.tolist(), list(names))


def _split(model: Path) -> dict[str, Any]:
    split: dict[str, Any] = load(model).manifest.provenance["split"]
    return split


def test_calibrate_model_own_training_data_uses_the_held_out_part(trained: tuple[Path, Path], model: Path) -> None:
    before = load(model)
    _calibrate(model, trained[1])
    after = load(model)
    assert after.manifest.temperatures == before.manifest.temperatures
    assert after.calibration is not None
    drawn = split(two_colour_images(120, 28)[0], 0.4, 3)
    assert after.calibration.confidence_EN.shape == (4, len(drawn.calibration))
    assert after.manifest.provenance["split"] == drawn.provenance(0.4, 3)


def test_calibrate_model_half_stays_so_when_calibrated_again(trained: tuple[Path, Path], model: Path) -> None:
    before = (model / "model.safetensors").stat().st_size
    _calibrate(model, trained[1], half=True)
    digest, card = load(model).sha256, (model / "README.md").read_text()
    assert (model / "model.safetensors").stat().st_size < 0.65 * before
    assert "rounded to half precision" in card
    _calibrate(model, trained[1])
    assert load(model).sha256 == digest
    assert (model / "README.md").read_text() == card


def test_calibrate_model_fresh_data_is_halved_and_marked_until_calibrated_on_held_out_images(
    trained: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    before = _split(model)
    fresh = _two_colours(tmp_path / "fresh.parquet", 100, seed=5)
    _calibrate(model, fresh, fresh=True)
    told = _split(model)
    assert told["calibration"] + told["test"] == 100
    assert told["calibrated_on"] == "fresh"
    card = (model / "README.md").read_text()
    assert f"On {told['test']} held-out images" in card
    assert "other files than it was trained from" in card
    _calibrate(model, trained[1])
    assert _split(model) == before


def test_calibrate_model_card_says_how_images_were_held_out(model: Path) -> None:
    card = (model / "README.md").read_text()
    assert "- held out: 0.4 of the images, drawn by their content with seed 3\n" in card
    assert "- left out of the held-out images: 0 near-duplicates of other images\n" in card


def test_calibrate_model_without_a_calibration_image_raises(model: Path, tmp_path: Path) -> None:
    images, labels = two_colour_images(120, 28)
    rows = split(images, 0.4, 3).test
    path = write_parquet(
        tmp_path / "a.parquet", [encode(images[row]) for row in rows], labels[rows].tolist(), ["red", "blue"]
    )
    with pytest.raises(DataError, match="none of the images is left to calibrate on"):
        _calibrate(model, path)


def test_calibrate_and_evaluate_other_classes_raise_naming_them(model: Path, tmp_path: Path) -> None:
    path = _two_colours(tmp_path / "a.parquet", 8, seed=0, names=("cat", "dog"))
    with pytest.raises(DataError, match=r"2 classes .* not have \(cat, dog\); the model has 2 \(red, blue\)"):
        _calibrate(model, path)
    with pytest.raises(DataError, match="2 classes"):
        _evaluated(model, path, fresh=True)


def test_evaluate_model_writes_report_and_pictures(trained: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    model, data = trained
    evaluation = evaluate_model(model, [data], out=tmp_path, statics=[model], device="cpu", console=CONSOLE)
    assert set(evaluation.curves) == {"solver", "shared", "authors"}
    assert all(len(curve) == 20 for curve in evaluation.curves.values())
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["num_images"] == _split(model)["test"]
    assert report["judgement"]["exit_accuracy"] == list(evaluation.judgement.exit_accuracy)
    assert report["statics"][0]["macs"] == evaluation.walk_macs[-1]
    for name in ("accuracy.png", "exit_shares.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_evaluate_model_without_calibration_raises_saying_what_to_do(
    trained: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    (model / "calibration.safetensors").unlink()
    with pytest.raises(DataError, match="run `dvt calibrate` first"):
        evaluate_model(model, [trained[1]], out=tmp_path, statics=[], device="cpu", console=CONSOLE)


def _evaluated(model: Path, data: Path, *, fresh: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200)
    evaluation = evaluate_model(
        model, [data], out=data.parent / "report", statics=[], device="cpu", console=console, fresh=fresh
    )
    assert isinstance(console.file, io.StringIO)
    return evaluation.num_images, console.file.getvalue()


def test_evaluate_model_fresh_data_is_judged_in_full_until_calibrated_on_it(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    fresh = _two_colours(tmp_path / "fresh.parquet", 100, seed=5)
    assert _evaluated(model, fresh, fresh=True)[0] == 100
    some, said = _evaluated(model, fresh)
    assert 10 <= some <= 30  # a fifth
    assert "of the training part (--fresh keeps these, for files the model was not trained on)" in said
    _calibrate(model, fresh, fresh=True)
    assert _evaluated(model, fresh, fresh=True)[0] == _split(model)["test"]
