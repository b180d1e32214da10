import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from cascades import TINY, TINY_T2T
from training import changed, looking, quietly, run_of, saved, snapshot

from models.embedding import sinusoid_positions
from weights import load
from weights.card import TRUNK
from weights.training.checkpoint import CheckpointError
from weights.training.phase import Phase
from weights.training.progress import RunProgress
from weights.training.run import TrainingRun
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


pytestmark = pytest.mark.usefixtures("quick_probes")

TRUNK_SOURCE = [{"file": "a.pth", "sha256": "00ff", "family": "Lite", "licence": "MIT", "source": "somewhere"}]


@pytest.fixture(scope="module")
def whole(quick_probes: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, str]:
    """A finished run from a model with trunks, and what it printed; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    start = saved(folder / "start", looking(), class_names=("x", "y"), provenance={TRUNK: TRUNK_SOURCE})
    run = run_of(folder, "whole", init=start)
    finished, printed = quietly(run)
    assert finished
    return run, printed


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((1, 3), "in phase 3, look of 63 px, after 0 steps"),
        ((3, 3), "in phase 4, Transformers, after 3 steps"),
    ],
)
def test_train_interrupted_after_a_step_ends_with_the_weights_of_one_run(
    whole: tuple[TrainingRun, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[int, int],
    text: str,
) -> None:
    _interrupt_at_steps(monkeypatch, {place})
    pieces = replace(whole[0], out=tmp_path / "pieces", run_dir=tmp_path / "run")
    finished, printed = quietly(pieces)
    assert not finished
    assert f"stopped {text}; the same command goes on" in printed
    finished, printed = quietly(pieces)
    assert finished
    assert f"going on {text}" in printed
    expected, found = load(whole[0].out), load(pieces.out)
    assert changed(snapshot(expected.cascade), found.cascade) == set()
    assert found.manifest.thresholds == expected.manifest.thresholds
    assert found.manifest.provenance["results"] == expected.manifest.provenance["results"]


def test_train_finished_run_started_again_says_so(
    whole: tuple[TrainingRun, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Trainer, "run")
    run, _ = whole
    before = (run.out / "SHA256SUMS").read_text()
    finished, printed = quietly(run)
    assert finished
    assert "finished already" in printed
    assert (run.out / "SHA256SUMS").read_text() == before


def test_train_finished_run_whose_model_was_deleted_writes_it_again(
    whole: tuple[TrainingRun, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Trainer, "_train_step")
    run = replace(whole[0], out=tmp_path / "whole", run_dir=tmp_path / whole[0].run_dir.name)
    copytree(whole[0].run_dir, run.run_dir)
    assert quietly(run)[0]
    assert (run.out / "model.safetensors").read_bytes() == (whole[0].out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("preparation", "place"),
    [
        ("look of 32 px: fitting the classifier", "in phase 1, look of 32 px, after 0 steps"),
        ("look of 63 px: judging", "in phase 4, Transformers, after 0 steps"),
        ("calibrating", "before the model is written"),
    ],
)
def test_train_interrupted_in_a_preparation_stops_at_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparation: str, place: str
) -> None:
    recipe = {"look_epochs": "0.5,0,0.5", "epochs": "1", "batch_size": "8", "views": "2"}
    run, seen = run_of(tmp_path, "whole", recipe=recipe), []
    original = RunProgress.prepared

    def prepared_then_signal(self: RunProgress, what: str, done: int, total: int) -> None:
        original(self, what, done, total)
        seen.append(what)
        if what == preparation:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "prepared", prepared_then_signal)
        finished, printed = quietly(run)
    assert not finished
    assert seen.count(preparation) == 1
    assert f"stopped {place}; the same command goes on" in printed
    finished, printed = quietly(run)
    assert finished
    assert f"going on {place}" in printed


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda run: replace(run, out=run.out.with_name("other")), r"out: \.\./whole -> \.\./other"),
        (lambda run: replace(run, recipe={**run.recipe, "colour": "0.1"}), r"recipe colour: 0\.0 -> 0\.1"),
    ],
)
def test_train_another_run_in_the_same_run_folder_is_refused_with_the_difference(
    whole: tuple[TrainingRun, str], change: Callable[[TrainingRun], TrainingRun], difference: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"\n  {difference}\n"):
        quietly(change(whole[0]))


def test_train_provenance_and_card_tell_how_it_was_made(whole: tuple[TrainingRun, str]) -> None:
    run, printed = whole
    provenance = load(run.out).manifest.provenance
    assert provenance[TRUNK] == TRUNK_SOURCE
    assert provenance["init"]["name"] == "start"
    assert provenance["split"]["by"] == "content"
    assert provenance["recipe"]["look_epochs"] == [2, 1, 0.5]
    intervals = zip(
        provenance["results"]["exit_accuracy"], provenance["results"]["exit_accuracy_interval"], strict=True
    )
    assert all(low <= accuracy <= high for accuracy, (low, high) in intervals)
    card = (run.out / "README.md").read_text()
    assert "started from the weights of start" in card
    assert "00ff" in card
    assert len([line for line in printed.splitlines() if "95 % intervals" in line]) == 1


def test_train_two_colours_without_a_trunk_are_learned(tmp_path: Path) -> None:
    config = replace(TINY, num_classes=2)
    recipe = {"epochs": "6", "batch_size": "8", "learning_rate": "3e-3"}
    assert quietly(run_of(tmp_path, "hybrid", config, recipe=recipe))[0]
    assert min(load(tmp_path / "hybrid").manifest.provenance["results"]["exit_accuracy"]) >= 0.8


def test_train_diverging_loss_raises_naming_phase_and_step(tmp_path: Path) -> None:
    recipe = {"look_epochs": "2,0,0", "epochs": "1", "batch_size": "8", "look_rate": "1e30", "grad_clip": "1e30"}
    with pytest.raises(FloatingPointError, match=r"look of 32 px: the loss became \S+ at step \d+; try a smaller"):
        quietly(run_of(tmp_path, "whole", recipe=recipe))


def test_train_t2t_cascade_leaves_fixed_tensors_as_they_are(tmp_path: Path) -> None:
    config = replace(TINY_T2T, num_classes=2)
    recipe = {"epochs": "1", "batch_size": "16", "learning_rate": "1e-2"}
    run = run_of(tmp_path, "t2t", config, recipe=recipe)
    assert quietly(run)[0]
    stage = load(run.out).cascade.stages[0]
    assert torch.equal(stage.pos_embed[0], sinusoid_positions(5, TINY_T2T.embed_dim).float())
    rows = stage.embedding.attention1.w
    torch.testing.assert_close(rows @ rows.T, len(rows) * torch.eye(len(rows)))  # as they were drawn: orthogonal
    assert stage.cls_token.abs().max() > 0
