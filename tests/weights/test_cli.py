from pathlib import Path

import pytest
import torch
import typer
from cascades import TINY, randomised
from images import two_colour_parquet
from parity import KEPT, weights_of, write_released
from typer.testing import CliRunner

from weights import Manifest, load, save
from weights.cli import calibrate, convert, evaluate, train
from weights.preprocessing import Preprocessing

app = typer.Typer()
for command in (calibrate, convert, evaluate, train):
    app.command()(command)


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


@pytest.fixture
def init(tmp_path: Path) -> Path:
    manifest = Manifest(
        name="init",
        architecture=TINY,
        preprocessing=Preprocessing(resize_px=32, crop_px=28, mean=(0.5, 0.5, 0.5)),
        class_names=tuple("abcde"),
        thresholds=(1.0, 1.0, 1.0),
        temperatures=(1.0,) * 4,
        provenance={},
    )
    save(tmp_path / "init", randomised(TINY), manifest, "")
    return tmp_path / "init"


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


def test_train_init_and_variant_together_are_refused(init: Path, tmp_path: Path) -> None:
    code, output = _dvt("train", "data", "--out", tmp_path / "out", "--init", init, "--variant", "micro_56")
    assert code == 2
    assert "--init" in output


def test_train_init_not_a_model_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    code, output = _dvt("train", "data", "--out", tmp_path / "out", "--init", tmp_path / "nothing")
    assert code == 2
    assert "nothing" in output


def _train_micro(folder: Path, name: str, *options: object) -> Path:
    data = folder / "train.parquet"
    if not data.exists():
        two_colour_parquet(data, 40, side=32, mislabelled=0.2)
    code, output = _dvt(
        "train", data, "--out", folder / name, "--init", "none", "--variant", "micro_56", "--recipe", "epochs=1",
        "--recipe", "batch_size=8", "--holdout", 0.4, "--device", "cpu", *options,
    )  # fmt: skip
    assert code == 0, output
    return folder / name


def test_train_without_reuse_has_none(tmp_path: Path) -> None:
    model = _train_micro(tmp_path, "bare", "--no-feature-reuse", "--no-relation-reuse")
    architecture = load(model).manifest.architecture
    assert (architecture.feature_reuse, architecture.relation_reuse) == (None, None)
    assert architecture.grids == (2, 4, 7, 14)


def test_train_static_has_no_thresholds_in_its_card(tmp_path: Path) -> None:
    card = (_train_micro(tmp_path, "static", "--static", 4) / "README.md").read_text()
    assert "A plain Vision Transformer of 4x4 tokens for 2 classes" in card
    assert "Default thresholds" not in card
    cascade = _train_micro(tmp_path, "cascade")
    assert "\n\nDefault thresholds" in (cascade / "README.md").read_text()


def test_calibrate_then_evaluate_against_a_static_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plots extra")
    model = _train_micro(tmp_path, "cascade")
    static = _train_micro(tmp_path, "static", "--static", 7)
    assert load(static).manifest.architecture.grids == (7,)
    assert load(static).manifest.thresholds == ()
    code, output = _dvt("calibrate", model, tmp_path / "train.parquet", "--device", "cpu")
    assert code == 0, output
    assert "default thresholds: top-1" in output
    code, output = _dvt(
        "evaluate", model, tmp_path / "train.parquet", "--out", tmp_path / "report", "--static", static,
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, output
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "accuracy.png",
        "evaluation.json",
        "exit_shares.png",
    }


def test_calibrate_above_the_last_exit_reaches_it_or_says_what_can_be_reached(tmp_path: Path) -> None:
    model = _train_micro(tmp_path, "cascade")
    table = load(model).calibration
    assert table is not None
    last, best = float(table.correct_EN[-1].mean()), float(table.correct_EN.mean(axis=1).max())
    arguments = ("calibrate", model, tmp_path / "train.parquet", "--device", "cpu", "--accuracy-drop")
    code, output = _dvt(*arguments, last - best)
    assert code == 0, output
    code, output = _dvt(*arguments, last - 1.1)
    assert code == 2
    assert "error: accuracy 1.1000 is above the" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "pace=1"), "a recipe has no 'pace'; it has look_epochs"),
        (("--recipe", "epochs=many"), "epochs must be a value such as"),
        (("--variant", "huge"), "'huge' is not one of micro_56"),
        (("--static", 15), "grid 15 is finer than the stem's map"),
    ],
)
def test_train_wrong_choice_is_refused_naming_it(tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    data = two_colour_parquet(tmp_path / "train.parquet", 20, side=32)
    code, output = _dvt("train", data, "--out", tmp_path / "out", "--init", "none", "--variant", "micro_56", *options)
    assert code == 2
    assert message in " ".join(output.replace("│", " ").split())


def test_evaluate_other_file_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    code, output = _dvt("evaluate", tmp_path, tmp_path, "--out", tmp_path / "report")
    assert (code, output.startswith("error: ")) == (2, True)
