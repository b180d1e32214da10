import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from images import encode, two_colour_images, write_parquet
from rich.console import Console
from training import calibrated_on_part

from weights import load
from weights.calibration.assess import calibrate_model, evaluate_model
from weights.data import DataError
from weights.splitting import split


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(calibrated model folder, the data its provenance names); not to be changed."""
    return calibrated_on_part(tmp_path_factory.mktemp("assess"))


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "tiny"))


def _calibrate(model: Path, data: Path, *, half: bool = False, fresh: bool = False) -> None:
    console = Console(file=io.StringIO())
    calibrate_model(model, [data], accuracy_drop=0.005, half=half, fresh=fresh, device="cpu", console=console)


def _evaluate(model: Path, data: Path, *, fresh: bool = False) -> tuple[int, str]:
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    evaluation = evaluate_model(
        model, [data], out=data.parent / "report", statics=[], device="cpu", console=console, fresh=fresh
    )
    return evaluation.num_images, printed.getvalue()


def _two_colours(path: Path, count: int, seed: int, names: tuple[str, str] = ("red", "blue")) -> Path:
    images, labels = two_colour_images(count, 28, seed)
    return write_parquet(path, [encode(image) for image in images], labels.tolist(), list(names))


def _split(model: Path) -> dict[str, Any]:
    split: dict[str, Any] = load(model).manifest.provenance["split"]
    return split


def test_calibrate_model_own_training_data_uses_the_held_out_part(trained: tuple[Path, Path]) -> None:
    stored = load(trained[0])
    drawn = split(two_colour_images(80, 28)[0], 0.4, 3)
    assert stored.calibration is not None
    assert stored.calibration.confidence_EN.shape == (4, len(drawn.calibration))
    assert stored.manifest.provenance["split"] == drawn.provenance(0.4, 3)
    card = (trained[0] / "README.md").read_text()
    assert "- held out: 0.4 of the images, drawn by their content with seed 3\n" in card
    assert "- left out of the held-out images: 0 near-duplicates of other images\n" in card


def test_calibrate_model_half_stays_so_when_calibrated_again(trained: tuple[Path, Path], model: Path) -> None:
    before = (model / "model.safetensors").stat().st_size
    _calibrate(model, trained[1], half=True)
    digest, card = load(model).sha256, (model / "README.md").read_text()
    assert (model / "model.safetensors").stat().st_size < 0.65 * before
    assert "rounded to half precision" in card
    _calibrate(model, trained[1])
    assert load(model).sha256 == digest
    assert (model / "README.md").read_text() == card


def test_fresh_data_are_judged_in_full_until_half_of_them_calibrate_the_model(
    trained: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    before, fresh = _split(model), _two_colours(tmp_path / "fresh.parquet", 100, seed=5)
    assert _evaluate(model, fresh, fresh=True)[0] == 100
    some, said = _evaluate(model, fresh)
    assert 10 <= some <= 30  # a fifth
    assert "of the training part (--fresh keeps these, for files the model was not trained on)" in said
    _calibrate(model, fresh, fresh=True)
    told = _split(model)
    assert told["calibration"] + told["test"] == 100
    assert told["calibrated_on"] == "fresh"
    card = (model / "README.md").read_text()
    assert f"On {told['test']} held-out images" in card
    assert "other files than it was trained from" in card
    assert _evaluate(model, fresh, fresh=True)[0] == told["test"]
    _calibrate(model, trained[1])
    assert _split(model) == before


def test_calibrate_model_without_a_calibration_image_raises(model: Path, tmp_path: Path) -> None:
    images, labels = two_colour_images(80, 28)
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
        _evaluate(model, path, fresh=True)
