import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cascades import TINY
from images import encode, two_colour_images, two_colour_parquet, write_parquet
from rich.console import Console

from weights import load
from weights.calibration.assess import calibrate_model, evaluate_model, held_out_parts
from weights.data import DataError, load_images
from weights.preprocessing import Preprocessing
from weights.training.augment import Augmentation
from weights.training.recipe import Recipe
from weights.training.train import TrainingRun, train

CONSOLE = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model folder, the data it was trained from)."""
    folder = tmp_path_factory.mktemp("assess")
    data = two_colour_parquet(folder / "train.parquet", 120, side=28, mislabelled=0.25)
    run = TrainingRun(
        name="tiny",
        data=(data,),
        out=folder / "tiny",
        run_dir=folder / "run",
        architecture=replace(TINY, num_classes=2),
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        recipe=Recipe(epochs=3, batch_size=16, augmentation=Augmentation(padding_px=2), learning_rate=3e-3),
        holdout=0.4,
    )
    assert train(run, CONSOLE)
    return run.out, data


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "tiny"))


def _calibrate(model: Path, data: Path, *, half: bool = False) -> None:
    calibrate_model(model, [data], accuracy_drop=0.005, half=half, device="cpu", console=CONSOLE)


def test_train_ends_with_a_calibrated_model(trained: tuple[Path, Path]) -> None:
    stored = load(trained[0])
    assert stored.calibration is not None
    assert stored.calibration.confidence_EN.shape == (4, 24)
    assert len(set(stored.manifest.temperatures)) > 1


def test_calibrate_model_own_training_data_uses_the_held_out_part(trained: tuple[Path, Path], model: Path) -> None:
    before = load(model)
    _calibrate(model, trained[1])
    after = load(model)
    # Training evaluated in bfloat16, so the fit repeats itself up to that rounding only.
    assert after.manifest.temperatures == pytest.approx(before.manifest.temperatures, rel=0.1)
    assert after.calibration is not None
    assert after.calibration.confidence_EN.shape == (4, 24)
    assert after.manifest.provenance["split"]["test"] == 24


def test_calibrate_model_half_stays_so_when_calibrated_again(trained: tuple[Path, Path], model: Path) -> None:
    before = (model / "model.safetensors").stat().st_size
    _calibrate(model, trained[1], half=True)
    digest, card = load(model).sha256, (model / "README.md").read_text()
    assert (model / "model.safetensors").stat().st_size < 0.65 * before
    assert "rounded to half precision" in card
    _calibrate(model, trained[1])
    assert load(model).sha256 == digest
    assert (model / "README.md").read_text() == card


def test_calibrate_model_other_data_is_halved(model: Path, tmp_path: Path) -> None:
    other = two_colour_parquet(tmp_path / "other.parquet", 40, side=28)
    _calibrate(model, other)
    after = load(model)
    assert after.calibration is not None
    assert after.calibration.confidence_EN.shape == (4, 20)
    assert f"{20:,} held-out images" in (model / "README.md").read_text()


def test_held_out_parts_of_training_data_are_disjoint_from_training(trained: tuple[Path, Path]) -> None:
    manifest = load(trained[0]).manifest
    data = load_images([trained[1]], manifest.preprocessing)
    seen, unseen = held_out_parts(manifest, [trained[1]], data)
    assert (len(seen), len(unseen)) == (24, 24)
    assert not {image.tobytes() for image in seen.images} & {image.tobytes() for image in unseen.images}


def test_calibrate_model_other_classes_raises_naming_them(model: Path, tmp_path: Path) -> None:
    images, labels = two_colour_images(8, side=28)
    path = write_parquet(tmp_path / "a.parquet", [encode(image) for image in images], labels.tolist(), ["cat", "dog"])
    with pytest.raises(DataError, match=r"2 classes \(cat, dog …\), the model 2 \(red, blue …\)"):
        _calibrate(model, path)


def test_evaluate_model_writes_report_and_pictures(trained: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    model, data = trained
    evaluation = evaluate_model(model, [data], out=tmp_path, statics=[model], device="cpu", console=CONSOLE)
    assert set(evaluation.curves) == {"solver", "shared", "authors"}
    assert all(len(curve) == 20 for curve in evaluation.curves.values())
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["num_images"] == 24
    assert report["judgement"]["exit_accuracy"] == list(evaluation.judgement.exit_accuracy)
    assert report["statics"][0]["macs"] == evaluation.walk_macs[-1]
    for name in ("accuracy.png", "exit_shares.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_evaluate_model_solver_is_never_worse_where_it_solved(trained: tuple[Path, Path], tmp_path: Path) -> None:
    from weights.calibration.evaluate import evaluate

    stored = load(trained[0])
    assert stored.calibration is not None
    # Judge on the very confidences the thresholds are chosen on: logits that reproduce the table.
    confidence, correct = stored.calibration.confidence_EN, stored.calibration.correct_EN
    best = np.log(confidence / (1 - confidence)) * np.asarray(stored.manifest.temperatures)[:, None]
    logits = np.where(correct[..., None], np.stack([best, 0 * best], -1), np.stack([0 * best, best], -1))
    labels = np.zeros(confidence.shape[1], dtype=np.int64)
    evaluation = evaluate(stored.manifest, stored.calibration, logits, labels)
    for way in ("shared", "authors"):
        for ours, theirs in zip(evaluation.curves["solver"], evaluation.curves[way], strict=True):
            assert ours.outcome.accuracy >= theirs.outcome.accuracy


def test_evaluate_model_without_calibration_raises_saying_what_to_do(
    trained: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    (model / "calibration.safetensors").unlink()
    with pytest.raises(DataError, match="run `dvt calibrate` first"):
        evaluate_model(model, [trained[1]], out=tmp_path, statics=[], device="cpu", console=CONSOLE)


def test_held_out_parts_of_other_images_than_training_had_raises(trained: tuple[Path, Path]) -> None:
    manifest = load(trained[0]).manifest
    data = load_images([trained[1]], manifest.preprocessing, limit=100)
    with pytest.raises(DataError, match=r"made from 120 images of train\.parquet, this has 100"):
        held_out_parts(manifest, [trained[1]], data)
