import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from cascades import TINY_T2T
from training import SMALL, changed, looking, quietly, run_of, saved, snapshot

from models.embedding import sinusoid_positions
from weights import load
from weights.card import TRUNK
from weights.training.checkpoint import CheckpointError
from weights.training.phase import Phase
from weights.training.progress import RunProgress
from weights.training.run import TrainingRun
from weights.training.trainer import StepReport, Trainer

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


def _interrupt_at(patch: pytest.MonkeyPatch, place: str | tuple[int, int]) -> list[str]:
    """Signal when a preparation begins, or after a step (phase, number); returns what is prepared from now on."""
    seen: list[str] = []
    prepared, train_step = RunProgress.prepared, Trainer._train_step

    def prepared_then_signal(self: RunProgress, what: str, done: int, total: int) -> None:
        prepared(self, what, done, total)
        seen.append(what)
        if what == place:
            signal.raise_signal(signal.SIGTERM)

    def step_then_signal(self: Trainer, phase: Phase) -> StepReport:
        report = train_step(self, phase)
        if (report.phase, report.step) == place:
            signal.raise_signal(signal.SIGINT)
        return report

    patch.setattr(RunProgress, "prepared", prepared_then_signal)
    patch.setattr(Trainer, "_train_step", step_then_signal)
    return seen


def test_train_interrupted_again_and_again_ends_with_the_weights_of_one_run(
    whole: tuple[TrainingRun, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces, before = replace(whole[0], out=tmp_path / "pieces", run_dir=tmp_path / "run"), ""
    for place, text in (
        ("look of 32 px: features for the classifier", "in phase 1, look of 32 px, after 0 steps"),
        ((0, 2), "in phase 1, look of 32 px, after 2 steps"),
        ("look of 49 px: fitting the classifier", "in phase 2, look of 49 px, after 0 steps"),
        ((2, 1), "in phase 4, Transformers, after 0 steps"),
        ("Transformers: preparing views", "in phase 4, Transformers, after 0 steps"),
        ((3, 2), "in phase 4, Transformers, after 2 steps"),
        ("calibrating", "before the model is written"),
    ):
        with monkeypatch.context() as patch:
            seen = _interrupt_at(patch, place)
            finished, printed = quietly(pieces)
        assert not finished
        assert seen.count(place) <= 1  # it stops at once
        assert f"stopped {text}; the same command goes on" in printed
        assert before in printed
        before = f"going on {text}"
    finished, printed = quietly(pieces)
    assert finished
    assert before in printed
    expected, found = load(whole[0].out), load(pieces.out)
    assert changed(snapshot(expected.cascade), found.cascade) == set()
    assert found.manifest.thresholds == expected.manifest.thresholds
    assert found.manifest.provenance["results"] == expected.manifest.provenance["results"]


def test_train_finished_run_started_again_says_so_and_writes_a_deleted_model_again(
    whole: tuple[TrainingRun, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Trainer, "_train_step")
    run = replace(whole[0], out=tmp_path / "whole", run_dir=tmp_path / whole[0].run_dir.name)
    copytree(whole[0].run_dir, run.run_dir)
    assert "finished already" not in quietly(run)[1]
    assert (run.out / "model.safetensors").read_bytes() == (whole[0].out / "model.safetensors").read_bytes()
    before = (run.out / "SHA256SUMS").stat()
    finished, printed = quietly(run)
    assert finished
    assert "finished already" in printed
    assert (run.out / "SHA256SUMS").stat() == before


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
    assert provenance["recipe"]["look_epochs"] == [1, 0, 0.5]
    card = (run.out / "README.md").read_text()
    assert "started from the weights of start" in card
    assert "00ff" in card
    assert "\n\nDefault thresholds" in card
    assert len([line for line in printed.splitlines() if "95 % intervals" in line]) == 1


def test_train_two_colours_without_a_trunk_are_learned(tmp_path: Path) -> None:
    recipe = {"epochs": "6", "batch_size": "8", "learning_rate": "3e-3"}
    assert quietly(run_of(tmp_path, "hybrid", SMALL, recipe=recipe))[0]
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
