from pathlib import Path

import pytest
import torch
import typer
from cascades import TINY, randomised
from images import two_colour_parquet
from parity import KEPT, weights_of, write_released
from typer.testing import CliRunner

from weights import Manifest, load, save
from weights.cli import convert, train
from weights.preprocessing import Preprocessing

app = typer.Typer()
app.command()(convert)
app.command()(train)


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
        "train", data, "--out", tmp_path / "out", "--init", init, "--epochs", 1, "--batch-size", 16,
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
