import io
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY
from images import two_colour_parquet
from rich.console import Console

from models.config import CascadeConfig
from weights import load
from weights.preprocessing import Preprocessing
from weights.training.augment import Augmentation
from weights.training.checkpoint import CheckpointError
from weights.training.recipe import Recipe
from weights.training.train import TrainingRun, train
from weights.training.trainer import StepReport, Trainer

CONFIG = replace(TINY, num_classes=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return two_colour_parquet(tmp_path / "train.parquet", 80, side=28)


def _run(data: Path, name: str, config: CascadeConfig = CONFIG, **changes: object) -> TrainingRun:
    return TrainingRun(
        name="tiny",
        data=(data,),
        out=data.parent / name,
        run_dir=data.parent / f"{name}.run",
        architecture=config,
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        recipe=Recipe(epochs=3, batch_size=16, augmentation=Augmentation(padding_px=2), learning_rate=3e-3),
        holdout=0.2,
        **changes,
    )


def _train(run: TrainingRun) -> bool:
    return train(run, Console(file=io.StringIO()))


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    original = Trainer._train_step

    def step_then_signal(self: Trainer) -> StepReport:
        report = original(self)
        if report.step in steps:
            steps.discard(report.step)
            signal.raise_signal(signal.SIGINT)
        return report

    monkeypatch.setattr(Trainer, "_train_step", step_then_signal)


def test_train_interrupted_twice_ends_with_the_weights_of_one_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _train(_run(data, "whole"))
    _interrupt_at(monkeypatch, {2, 7})
    pieces = _run(data, "pieces")
    assert [_train(pieces), _train(pieces), _train(pieces)] == [False, False, True]
    expected, found = (load(data.parent / name) for name in ("whole", "pieces"))
    for key, value in expected.cascade.state_dict().items():
        assert torch.equal(found.cascade.state_dict()[key], value), key
    assert found.manifest.thresholds == expected.manifest.thresholds
    assert found.manifest.provenance["results"] == expected.manifest.provenance["results"]


def test_train_finished_run_started_again_stays_finished(data: Path) -> None:
    run = _run(data, "whole")
    assert _train(run)
    before = (run.out / "SHA256SUMS").read_text()
    assert _train(run)
    assert (run.out / "SHA256SUMS").read_text() == before


def test_train_easy_classes_are_learned_and_reported(data: Path) -> None:
    run = replace(_run(data, "easy"), recipe=replace(_run(data, "easy").recipe, epochs=15))
    assert _train(run)
    stored = load(run.out)
    assert stored.manifest.class_names == ("red", "blue")
    assert min(stored.manifest.provenance["results"]["exit_accuracy"]) >= 0.9
    assert stored.manifest.provenance["split"] == {"train": 64, "calibration": 8, "test": 8}
    card = (run.out / "README.md").read_text()
    assert f"epochs done: {run.recipe.epochs} of {run.recipe.epochs}" in card


def test_train_other_recipe_in_the_same_run_folder_raises(data: Path) -> None:
    run = _run(data, "whole")
    assert _train(run)
    with pytest.raises(CheckpointError, match="recipe was"):
        _train(replace(run, recipe=replace(run.recipe, seed=1)))


def test_train_fewer_images_than_a_batch_raises(data: Path) -> None:
    with pytest.raises(ValueError, match="do not fill one batch of 16"):
        _train(_run(data, "small", limit=18))


def test_trainer_diverging_loss_raises_naming_step(data: Path) -> None:
    run = _run(data, "diverges")
    with pytest.raises(FloatingPointError, match="at step"):
        _train(replace(run, recipe=replace(run.recipe, learning_rate=1e30)))
