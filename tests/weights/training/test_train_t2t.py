from dataclasses import replace
from pathlib import Path

import torch
from cascades import TINY_T2T
from training import quietly, run_of

from models.embedding import sinusoid_positions
from weights import load


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
