import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
import typer
from cascades import TINY, randomised
from parity import KEPT, weights_of, write_released
from training import calibrated_on_part, saved
from typer.testing import CliRunner

from models.config import VARIANTS, CascadeConfig
from weights import load
from weights.cli import calibrate, convert, evaluate, train
from weights.preprocessing import Preprocessing
from weights.training.run import TrainingRun

app = typer.Typer()
for command in (calibrate, convert, evaluate, train):
    app.command()(command)

NOTHING = ("--init", "none", "--variant", "micro_56")
"""Where to start from."""


def _dvt(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_convert_released_file_reports_and_writes_the_folder(tmp_path: Path) -> None:
    path = write_released(tmp_path / "a.pth.tar", weights_of(KEPT, "t2t_reduced_relation"))
    code, output = _dvt("convert", path, "--out", tmp_path / "model", "--half")
    assert code == 0
    assert "exits at 7x7, 10x10, 14x14" in output
    assert "59 operating points; default thresholds" in output
    manifest = load(tmp_path / "model").manifest
    assert (manifest.name, manifest.provenance["weights"]) == ("model", "float16")


def test_convert_foreign_file_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "a.pth")
    code, output = _dvt("convert", tmp_path / "a.pth", "--out", tmp_path / "model")
    assert (code, output.startswith("error: ")) == (2, True)
    assert "expected the authors' names" in output
    assert "found fc.weight" in output
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = Preprocessing(resize_px=32, crop_px=28, mean=(0.5, 0.5, 0.5))
    return saved(tmp_path_factory.mktemp("models") / "init", randomised(TINY), preprocessing=pixels)


class _Asked:
    """Stands for the training: keeps the run that the command asks for and ends as it is told."""

    def __init__(self) -> None:
        self.run: Any = None
        self.ends: bool | Exception = True

    def train(self, run: TrainingRun) -> bool:
        self.run = run
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> _Asked:
    asked = _Asked()
    monkeypatch.setattr("weights.training.train.train", asked.train)
    return asked


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (True, (0, "")),
        (False, (130, "")),
        (FloatingPointError("the loss became nan at step 3"), (2, "error: the loss became nan at step 3\n")),
    ],
)
def test_train_exit_code_tells_how_it_ended(
    init: Path, tmp_path: Path, asked: _Asked, ends: bool | Exception, expected: tuple[int, str]
) -> None:
    asked.ends = ends
    assert _dvt("train", "data", "--out", tmp_path / "out", "--init", init) == expected


def test_train_options_become_the_run(init: Path, tmp_path: Path, asked: _Asked) -> None:
    _dvt(
        "train", "a", "b", "--out", tmp_path / "out", "--init", init, "--looks-only", "--recipe", "look_epochs=2,1",
        "--epochs", 3, "--batch-size", 9, "--resize-px", 40, "--holdout", 0.2, "--limit", 7, "--seed", 5,
        "--checkpoint-s", 9, "--device", "cpu",
    )  # fmt: skip
    run = asked.run
    assert (run.name, run.out, run.run_dir) == ("out", tmp_path / "out", tmp_path / ".out.run")
    assert (run.data, run.init, run.looks_only) == ((Path("a"), Path("b")), str(init), True)
    assert run.recipe == {"look_epochs": "2,1", "epochs": "3.0", "batch_size": "9"}
    assert run.architecture == TINY
    assert run.preprocessing == Preprocessing(resize_px=40, crop_px=28, mean=(0.5, 0.5, 0.5))
    assert (run.holdout, run.limit, run.seed, run.checkpoint_s, run.device) == (0.2, 7, 5, 9.0, "cpu")


def test_train_without_init_takes_the_variant_and_leaves_unchosen_options_to_the_run(
    tmp_path: Path, asked: _Asked
) -> None:
    _dvt("train", "data", "--out", tmp_path / "out", *NOTHING)
    run = asked.run
    assert (run.init, run.architecture) == (None, VARIANTS["micro_56"])
    assert run.preprocessing == Preprocessing(resize_px=56, crop_px=56)
    assert (run.recipe, run.holdout, run.limit, run.seed, run.looks_only) == ({}, None, None, 0, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--no-feature-reuse",), replace(TINY, feature_reuse=None)),
        (("--no-relation-reuse",), replace(TINY, relation_reuse=None)),
        (("--no-logit-reuse",), TINY),
        (("--static", 4), TINY.plain(4)),
    ],
)
def test_train_ablations_and_static_change_the_architecture_of_init(
    init: Path, tmp_path: Path, asked: _Asked, options: tuple[object, ...], expected: CascadeConfig
) -> None:
    _dvt("train", "data", "--out", tmp_path / "out", "--init", init, *options)
    assert asked.run.architecture == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*NOTHING, "--recipe", "pace=1"), "a recipe has no 'pace'; it has look_epochs"),
        (("--init", "none", "--variant", "huge"), "'huge' is not one of micro_56"),
        ((*NOTHING, "--static", 15), "grid 15 is finer than the stem's map"),
        ((*NOTHING, "--looks-only"), "there is nothing to take"),
        ((*NOTHING, "--device", "cuda:99"), "'cuda:99' cannot be used here"),
        (("--init", "dvt-photos", "--variant", "micro_56"), "--init"),
        (("--init", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_train_wrong_choice_is_refused_naming_it(
    trained: tuple[Path, Path], tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    code, output = _dvt("train", trained[1], "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in " ".join(output.replace("│", " ").split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and the images it was trained from; not to be changed."""
    return calibrated_on_part(tmp_path_factory.mktemp("trained"))


def test_calibrate_then_evaluate_against_a_static_model(trained: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    model, data = copytree(trained[0], tmp_path / "tiny"), trained[1]
    code, output = _dvt("calibrate", model, data)
    assert code == 0, output
    assert "default thresholds: top-1" in output
    code, output = _dvt("evaluate", model, data, "--out", tmp_path / "report", "--static", model, "--device", "cpu")
    assert code == 0, output
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert report["num_images"] == load(model).manifest.provenance["split"]["test"]
    assert {way: len(curve) for way, curve in report["curves"].items()} == {"solver": 20, "shared": 20, "authors": 20}
    static, table = report["statics"][0], report["judgement"]["exit_accuracy"]
    assert (static["macs"], static["accuracy"]) == (report["walk_macs"][-1], table[-1])
    for name in ("accuracy.png", "exit_shares.png"):
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")
    (model / "calibration.safetensors").unlink()
    code, output = _dvt("evaluate", model, data, "--out", tmp_path / "report")
    assert (code, output.startswith("error: ")) == (2, True)
    assert "run `dvt calibrate` first" in output


def test_calibrate_above_the_last_exit_reaches_it_or_says_what_can_be_reached(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model = copytree(trained[0], tmp_path / "tiny")
    table = load(model).calibration
    assert table is not None
    last, best = float(table.correct_EN[-1].mean()), float(table.correct_EN.mean(axis=1).max())
    arguments = ("calibrate", model, trained[1], "--device", "cpu", "--accuracy-drop")
    code, output = _dvt(*arguments, last - best)
    assert code == 0, output
    code, output = _dvt(*arguments, last - 1.1)
    assert code == 2
    assert "error: accuracy 1.1000 is above the" in output
