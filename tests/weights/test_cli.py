from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
import typer
from cascades import TINY, randomised
from images import two_colour_parquet
from manifests import manifest_of
from parity import KEPT, weights_of, write_released
from typer.testing import CliRunner

from models.config import VARIANTS, CascadeConfig
from weights import load, save
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
    code, output = _dvt("convert", path, "--out", tmp_path / "model")
    assert code == 0
    assert "exits at 7x7, 10x10, 14x14" in output
    assert "59 operating points; default thresholds" in output
    assert load(tmp_path / "model").manifest.name == "model"


def test_convert_foreign_file_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "a.pth")
    code, output = _dvt("convert", tmp_path / "a.pth", "--out", tmp_path / "model")
    assert code == 2
    assert output.startswith("error: ")
    assert "expected the authors' names" in output
    assert "found fc.weight" in output
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "init"
    pixels = Preprocessing(resize_px=32, crop_px=28, mean=(0.5, 0.5, 0.5))
    save(folder, randomised(TINY), manifest_of(TINY, name="init", preprocessing=pixels), "")
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainingRun]:
    """The runs the command asks for, none of which is trained or finished."""
    runs: list[TrainingRun] = []

    def unfinished(run: TrainingRun) -> bool:
        runs.append(run)
        return False

    monkeypatch.setattr("weights.training.train.train", unfinished)
    return runs


def test_train_init_takes_architecture_and_preprocessing_from_the_model(init: Path, tmp_path: Path) -> None:
    data = two_colour_parquet(tmp_path / "train.parquet", 40, side=32)
    code, output = _dvt(
        "train", data, "--out", tmp_path / "out", "--init", init, "--recipe", "epochs=1", "--recipe", "batch_size=8",
        "--holdout", 0.2, "--run-dir", tmp_path / "run", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, output
    manifest = load(tmp_path / "out").manifest
    assert manifest.architecture.embed_dim == TINY.embed_dim
    assert manifest.architecture.num_classes == 2
    assert manifest.preprocessing == Preprocessing(resize_px=32, crop_px=28, mean=(0.5, 0.5, 0.5))
    assert manifest.provenance["init"]["name"] == "init"


def test_train_interrupted_exits_with_130_having_left_unchosen_options_to_the_run(
    init: Path, tmp_path: Path, asked: list[TrainingRun]
) -> None:
    assert _dvt("train", "data", "--out", tmp_path / "out", "--init", init) == (130, "")
    (run,) = asked
    assert (run.recipe, run.holdout, run.limit, run.seed, run.looks_only) == ({}, None, None, 0, False)
    assert run.architecture == TINY
    assert run.preprocessing.resize_px == 32


def test_train_short_options_are_values_of_the_recipe(init: Path, tmp_path: Path, asked: list[TrainingRun]) -> None:
    _dvt("train", "data", "--out", tmp_path / "out", "--init", init, "--epochs", 2, "--batch-size", 9)
    assert asked[0].recipe == {"epochs": "2.0", "batch_size": "9"}


def test_train_options_become_the_run(init: Path, tmp_path: Path, asked: list[TrainingRun]) -> None:
    _dvt(
        "train", "a", "b", "--out", tmp_path / "out", "--init", init, "--looks-only", "--recipe", "look_epochs=2,1",
        "--recipe", "epochs=3", "--resize-px", 40, "--holdout", 0.2, "--limit", 7, "--seed", 5, "--checkpoint-s", 9,
        "--device", "cpu",
    )  # fmt: skip
    (run,) = asked
    assert (run.name, run.out, run.run_dir) == ("out", tmp_path / "out", tmp_path / ".out.run")
    assert (run.data, run.init, run.looks_only) == ((Path("a"), Path("b")), str(init), True)
    assert run.recipe == {"look_epochs": "2,1", "epochs": "3"}
    assert (run.preprocessing.resize_px, run.preprocessing.crop_px) == (40, 28)
    assert (run.holdout, run.limit, run.seed, run.checkpoint_s, run.device) == (0.2, 7, 5, 9.0, "cpu")


def test_train_without_init_takes_the_variant_and_images_as_they_are_seen(
    tmp_path: Path, asked: list[TrainingRun]
) -> None:
    _dvt("train", "data", "--out", tmp_path / "out", *NOTHING)
    (run,) = asked
    assert (run.init, run.architecture) == (None, VARIANTS["micro_56"])
    assert run.preprocessing == Preprocessing(resize_px=56, crop_px=56)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--no-feature-reuse",), replace(TINY, feature_reuse=None)),
        (("--no-relation-reuse",), replace(TINY, relation_reuse=None)),
        (("--static", 4), TINY.plain(4)),
    ],
)
def test_train_ablations_and_static_change_the_architecture_of_init(
    init: Path, tmp_path: Path, asked: list[TrainingRun], options: tuple[object, ...], expected: CascadeConfig
) -> None:
    _dvt("train", "data", "--out", tmp_path / "out", "--init", init, *options)
    assert asked[0].architecture == expected


def test_train_diverging_is_one_line_and_exit_code_two(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(run: TrainingRun) -> bool:
        raise FloatingPointError("the loss became nan at step 3")

    monkeypatch.setattr("weights.training.train.train", diverge)
    code, output = _dvt("train", "data", "--out", tmp_path / "out", "--init", init)
    assert (code, output) == (2, "error: the loss became nan at step 3\n")


def _train_micro(folder: Path, name: str, *options: object) -> Path:
    code, output = _dvt(
        "train", folder / "train.parquet", "--out", folder / name, *NOTHING,
        "--recipe", "epochs=1", "--recipe", "batch_size=8", "--holdout", 0.4, "--device", "cpu", *options,
    )  # fmt: skip
    assert code == 0, output
    return folder / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cascade, a static model, and the images both were trained from; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    two_colour_parquet(folder / "train.parquet", 40, side=32, mislabelled=0.2)
    _train_micro(folder, "cascade")
    _train_micro(folder, "static", "--static", 7)
    return folder


def test_train_static_has_no_thresholds_in_its_card(trained: Path) -> None:
    manifest = load(trained / "static").manifest
    assert (manifest.architecture.grids, manifest.thresholds) == ((7,), ())
    card = (trained / "static" / "README.md").read_text()
    assert "A plain Vision Transformer of 7x7 tokens for 2 classes" in card
    assert "Default thresholds" not in card
    assert "\n\nDefault thresholds" in (trained / "cascade" / "README.md").read_text()


def test_calibrate_then_evaluate_against_a_static_model(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    model, data = tmp_path / "cascade", trained / "train.parquet"
    copytree(trained / "cascade", model)
    code, output = _dvt("calibrate", model, data, "--device", "cpu")
    assert code == 0, output
    assert "default thresholds: top-1" in output
    code, output = _dvt(
        "evaluate", model, data, "--out", tmp_path / "report", "--static", trained / "static", "--device", "cpu"
    )
    assert code == 0, output
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == ["accuracy.png", "evaluation.json", "exit_shares.png"]


def test_calibrate_above_the_last_exit_reaches_it_or_says_what_can_be_reached(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "cascade"
    copytree(trained / "cascade", model)
    table = load(model).calibration
    assert table is not None
    last, best = float(table.correct_EN[-1].mean()), float(table.correct_EN.mean(axis=1).max())
    arguments = ("calibrate", model, trained / "train.parquet", "--device", "cpu", "--accuracy-drop")
    code, output = _dvt(*arguments, last - best)
    assert code == 0, output
    code, output = _dvt(*arguments, last - 1.1)
    assert code == 2
    assert "error: accuracy 1.1000 is above the" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*NOTHING, "--recipe", "pace=1"), "a recipe has no 'pace'; it has look_epochs"),
        ((*NOTHING, "--recipe", "epochs=many"), "epochs must be a value such as"),
        (("--init", "none", "--variant", "huge"), "'huge' is not one of micro_56"),
        ((*NOTHING, "--static", 15), "grid 15 is finer than the stem's map"),
        ((*NOTHING, "--looks-only"), "there is nothing to take"),
        ((*NOTHING, "--device", "cuda:99"), "'cuda:99' cannot be used here"),
        (("--init", "dvt-photos", "--variant", "micro_56"), "--init"),
        (("--init", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_train_wrong_choice_is_refused_naming_it(tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    data = two_colour_parquet(tmp_path / "train.parquet", 20, side=32)
    code, output = _dvt("train", data, "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in " ".join(output.replace("│", " ").split())


def test_evaluate_other_file_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    code, output = _dvt("evaluate", tmp_path, tmp_path, "--out", tmp_path / "report")
    assert (code, output.startswith("error: ")) == (2, True)
