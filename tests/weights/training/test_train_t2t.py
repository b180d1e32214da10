import io
from dataclasses import replace
from pathlib import Path

import torch
from cascades import TINY_T2T
from images import two_colour_parquet
from rich.console import Console

from models.embedding import sinusoid_positions
from weights import load
from weights.preprocessing import Preprocessing
from weights.training.recipe import Recipe
from weights.training.train import TrainingRun, train


def test_train_t2t_cascade_leaves_fixed_tensors_as_they_are(tmp_path: Path) -> None:
    run = TrainingRun(
        name="t2t",
        data=(two_colour_parquet(tmp_path / "train.parquet", 80, side=28),),
        out=tmp_path / "t2t",
        run_dir=tmp_path / "run",
        architecture=replace(TINY_T2T, num_classes=2),
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        recipe=Recipe(epochs=1, batch_size=16, learning_rate=1e-2),
        holdout=0.2,
    )
    assert train(run, Console(file=io.StringIO()))
    stage = load(run.out).cascade.stages[0]
    assert torch.equal(stage.pos_embed[0], sinusoid_positions(5, TINY_T2T.embed_dim).float())
    rows = stage.embedding.attention1.w
    torch.testing.assert_close(rows @ rows.T, len(rows) * torch.eye(len(rows)))  # as they were drawn: orthogonal
    assert stage.cls_token.abs().max() > 0
