import io
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY, TINY_CONFIGS, randomised
from images import two_colour_parquet
from rich.console import Console

from models.cascade import Cascade
from models.config import CascadeConfig
from models.embedding import residual_blocks
from weights import Manifest, ModelFormatError, load, save
from weights.preprocessing import Preprocessing
from weights.training.checkpoint import CheckpointError
from weights.training.initial import start_from
from weights.training.recipe import Recipe
from weights.training.train import TrainingRun, train
from weights.training.trainer import StepReport, Trainer


@pytest.fixture
def init(tmp_path: Path) -> Path:
    return _saved(tmp_path / "init")


def _saved(folder: Path, seed: int = 0, architecture: CascadeConfig = TINY) -> Path:
    manifest = Manifest(
        name="start",
        architecture=architecture,
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        class_names=tuple("abcde"),
        thresholds=(1.0, 1.0, 1.0),
        temperatures=(1.0,) * 4,
        provenance={},
    )
    save(folder, randomised(architecture, seed), manifest, "")
    return folder


def _run(folder: Path, name: str, init: Path | None) -> TrainingRun:
    return TrainingRun(
        name=name,
        data=(two_colour_parquet(folder / "train.parquet", 80, side=28),),
        out=folder / name,
        run_dir=folder / f"{name}.run",
        architecture=TINY,
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        recipe=Recipe(epochs=2, batch_size=16),
        init=init,
        holdout=0.2,
    )


def test_start_from_same_classes_takes_every_weight(init: Path, tmp_path: Path) -> None:
    cascade = Cascade(TINY)
    origin = start_from(init, cascade, out=tmp_path / "out")
    assert all(torch.equal(value, randomised(TINY).state_dict()[key]) for key, value in cascade.state_dict().items())
    assert origin == {"name": "start", "sha256": load(init).sha256}


def test_start_from_other_classes_keeps_new_heads_only(init: Path, tmp_path: Path) -> None:
    cascade = Cascade(replace(TINY, num_classes=2))
    before = {key: value.clone() for key, value in cascade.state_dict().items()}
    start_from(init, cascade, out=tmp_path / "out")
    given = randomised(TINY).state_dict()
    for key, value in cascade.state_dict().items():
        assert torch.equal(value, before[key] if ".head." in key else given[key]), key


@pytest.mark.parametrize("config", [TINY, replace(TINY, feature_reuse=None), TINY.plain(7)])
def test_start_from_stem_only_takes_the_stem_alone(init: Path, tmp_path: Path, config: CascadeConfig) -> None:
    cascade = Cascade(config)
    before = {key: value.clone() for key, value in cascade.state_dict().items()}
    origin = start_from(init, cascade, out=tmp_path / "out", stem_only=True)
    given = randomised(TINY).state_dict()
    for key, value in cascade.state_dict().items():
        assert torch.equal(value, given[key] if key.startswith("stem.") else before[key]), key
    assert origin == {"name": "start", "sha256": load(init).sha256, "part": "stem"}


@pytest.mark.parametrize(("grid", "blocks"), [(2, 0), (4, 1), (7, 1), (14, 3)])
def test_start_from_stem_only_gives_a_static_vit_the_blocks_of_the_stages_up_to_its_grid(
    tmp_path: Path, grid: int, blocks: int
) -> None:
    deep = TINY_CONFIGS["deeper_maps"]
    start = _saved(tmp_path / "deep", architecture=deep)
    cascade = Cascade(deep.plain(grid))
    start_from(start, cascade, out=tmp_path / "out", stem_only=True)
    trained, own = residual_blocks(load(start).cascade.deepening), residual_blocks(cascade.deepening)
    assert len(own) == blocks
    for block, given in zip(own, trained, strict=False):
        assert all(torch.equal(value, given.state_dict()[key]) for key, value in block.state_dict().items())


def test_start_from_another_architecture_raises_naming_both(init: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"depth=2.*the run is of .*depth=3"):
        start_from(init, Cascade(replace(TINY, depth=3)), out=tmp_path / "out")


@pytest.mark.parametrize("kind", ["residual_stem", "patch"])
def test_start_from_stem_only_with_another_stem_raises_naming_both(init: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelFormatError, match=r"has HybridEmbeddingConfig.*blocks=\(\).*, the run "):
        start_from(init, Cascade(TINY_CONFIGS[kind]), out=tmp_path / "out", stem_only=True)


def test_start_from_the_folder_to_write_raises(init: Path) -> None:
    with pytest.raises(ModelFormatError, match="would be overwritten"):
        start_from(init, Cascade(TINY), out=init.parent / "." / "init")


def test_train_from_a_model_interrupted_ends_with_the_weights_of_one_run(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = Console(file=io.StringIO())
    assert train(_run(tmp_path, "whole", init), quiet)
    original = Trainer._train_step

    def step_then_signal(self: Trainer) -> StepReport:
        report = original(self)
        if report.step == 3:
            signal.raise_signal(signal.SIGINT)
        return report

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step_then_signal)
        assert not train(_run(tmp_path, "pieces", init), quiet)
    with pytest.raises(CheckpointError, match=r"init was .*, is None"):
        train(_run(tmp_path, "pieces", None), quiet)
    with pytest.raises(CheckpointError, match=r"init was .*, is "):
        train(_run(tmp_path, "pieces", _saved(tmp_path / "other", seed=1)), quiet)
    assert train(_run(tmp_path, "pieces", init), quiet)
    expected, found = load(tmp_path / "whole"), load(tmp_path / "pieces")
    for key, value in expected.cascade.state_dict().items():
        assert torch.equal(found.cascade.state_dict()[key], value), key
    assert found.manifest.provenance["init"]["name"] == "start"
    assert "started from the weights of start" in (tmp_path / "pieces" / "README.md").read_text()
