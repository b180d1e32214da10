import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY
from images import two_colour_parquet
from training import LOOKS, looking, quietly, run_of, saved

from weights import load
from weights.card import TRUNK
from weights.training.checkpoint import CheckpointError
from weights.training.phase import Phase
from weights.training.trainer import StepReport, Trainer


def _interrupt_at_steps(monkeypatch: pytest.MonkeyPatch, places: set[tuple[int, int]]) -> None:
    original = Trainer._train_step

    def step_then_signal(self: Trainer, phase: Phase) -> StepReport:
        report = original(self, phase)
        if (report.phase, report.step) in places:
            places.discard((report.phase, report.step))
            signal.raise_signal(signal.SIGINT)
        return report

    monkeypatch.setattr(Trainer, "_train_step", step_then_signal)


def test_train_interrupted_in_every_phase_ends_with_the_weights_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quietly(run_of(tmp_path, "whole"))[0]
    # Within a look, at the last step of one, and within the Transformers' phase.
    _interrupt_at_steps(monkeypatch, {(0, 2), (1, 3), (3, 3)})
    pieces = run_of(tmp_path, "pieces")
    outcomes = [quietly(pieces) for _ in range(4)]
    assert [finished for finished, _ in outcomes] == [False, False, False, True]
    assert all("the same command goes on" in printed for _, printed in outcomes[:3])
    expected, found = (load(tmp_path / name) for name in ("whole", "pieces"))
    for key, value in expected.cascade.state_dict().items():
        assert torch.equal(found.cascade.state_dict()[key], value), key
    assert found.manifest.thresholds == expected.manifest.thresholds
    assert found.manifest.provenance["results"] == expected.manifest.provenance["results"]


def test_train_finished_run_started_again_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, "whole")
    assert quietly(run)[0]
    before = (run.out / "SHA256SUMS").read_text()
    finished, printed = quietly(run)
    assert finished
    assert "finished already" in printed
    assert (run.out / "SHA256SUMS").read_text() == before


def test_train_provenance_and_card_tell_how_it_was_made(tmp_path: Path) -> None:
    trunk = [{"file": "a.pth", "sha256": "00ff", "family": "Lite", "licence": "MIT", "source": "somewhere"}]
    start = saved(tmp_path / "start", looking(), class_names=("x", "y"), provenance={TRUNK: trunk})
    finished, printed = quietly(run_of(tmp_path, "whole", init=start))
    assert finished
    provenance = load(tmp_path / "whole").manifest.provenance
    assert provenance[TRUNK] == trunk
    assert provenance["init"]["name"] == "start"
    assert provenance["split"]["by"] == "content"
    assert provenance["recipe"]["look_epochs"] == [2, 1, 0.5]
    intervals = zip(
        provenance["results"]["exit_accuracy"], provenance["results"]["exit_accuracy_interval"], strict=True
    )
    assert all(low <= accuracy <= high for accuracy, (low, high) in intervals)
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "started from the weights of start" in card
    assert "00ff" in card
    assert len([line for line in printed.splitlines() if "95 % intervals" in line]) == 1


def test_train_two_colours_without_a_trunk_are_learned(tmp_path: Path) -> None:
    config = replace(TINY, num_classes=2)
    recipe = {"epochs": "6", "batch_size": "8", "learning_rate": "3e-3"}
    assert quietly(run_of(tmp_path, "hybrid", config, recipe=recipe))[0]
    assert min(load(tmp_path / "hybrid").manifest.provenance["results"]["exit_accuracy"]) >= 0.8


def test_train_other_recipe_in_the_same_run_folder_is_refused_with_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt_at_steps(monkeypatch, {(0, 1)})
    run = run_of(tmp_path, "whole")
    assert not quietly(run)[0]
    with pytest.raises(CheckpointError, match=r"recipe epochs: 2\S* -> 3"):
        quietly(replace(run, recipe={**run.recipe, "epochs": "3"}))


def test_train_other_labels_in_the_same_run_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_at_steps(monkeypatch, {(0, 1)})
    run = run_of(tmp_path, "whole")
    assert not quietly(run)[0]
    two_colour_parquet(tmp_path / "train.parquet", 60, side=LOOKS.image_size, mislabelled=0.3)
    with pytest.raises(CheckpointError, match="images and labels"):
        quietly(run)


def test_train_diverging_loss_raises_naming_phase_and_step(tmp_path: Path) -> None:
    recipe = {"look_epochs": "2,0,0", "epochs": "1", "batch_size": "8", "look_rate": "1e30", "grad_clip": "1e30"}
    with pytest.raises(FloatingPointError, match=r"look of 32 px: the loss became \S+ at step \d+; try a smaller"):
        quietly(run_of(tmp_path, "whole", recipe=recipe))
