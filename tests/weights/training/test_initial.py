from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY, TINY_LOOKS, randomised
from training import changed, saved, snapshot

from models.cascade import Cascade
from models.config import CascadeConfig, TrunkEmbeddingConfig
from weights.store import ModelFormatError, load
from weights.training.initial import start_from

CLASSES = tuple("abcde")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return saved(tmp_path / "start", randomised(TINY_LOOKS))


def test_start_from_same_classes_takes_every_weight(start: Path, tmp_path: Path) -> None:
    cascade = Cascade(TINY_LOOKS)
    origin = start_from(load(start), cascade, CLASSES, out=tmp_path / "out")
    stored = load(start)
    shares = {f"stages.{stage}.logit_share" for stage in (1, 2)}  # which calibration chooses anew
    assert changed(snapshot(stored.cascade), cascade) == shares
    assert origin == {"name": "start", "sha256": stored.sha256}


@pytest.mark.parametrize("classes", [("cat", "dog"), tuple("vwxyz")])
def test_start_from_other_classes_keeps_new_classifiers_only(
    start: Path, tmp_path: Path, classes: tuple[str, ...]
) -> None:
    cascade = Cascade(replace(TINY_LOOKS, num_classes=len(classes)))
    before = snapshot(cascade)
    start_from(load(start), cascade, classes, out=tmp_path / "out")
    kept = {key for key in set(before) - changed(before, cascade) if not key.endswith("num_batches_tracked")}
    assert {key.split(".")[2] for key in kept} == {"head", "pooled_head", "logit_share"}
    assert len(kept) == 4 * TINY_LOOKS.num_stages + 2


@pytest.mark.parametrize("looks_only", [True, False])
@pytest.mark.parametrize(("grid", "stage"), [(2, 0), (4, 2)])
def test_start_from_static_vit_takes_the_stage_of_its_grid(
    start: Path, tmp_path: Path, grid: int, stage: int, looks_only: bool
) -> None:
    cascade = Cascade(TINY_LOOKS.plain(grid))
    start_from(load(start), cascade, CLASSES, out=tmp_path / "out", looks_only=looks_only)
    own, stored = cascade.stages[0].state_dict(), load(start).cascade.stages[stage].state_dict()
    same_shape = {key for key, value in own.items() if key in stored and stored[key].shape == value.shape}
    parts = {"cls_token", "pos_embed", "head.weight", "blocks.0.attn.qkv.weight", "embedding.tokens.0.proj.weight"}
    assert parts <= same_shape
    expected = same_shape
    if looks_only:
        expected = {key for key in same_shape if key.startswith(("embedding.trunk.", "pooled_head."))}
    assert all(torch.equal(own[key], stored[key]) for key in expected)
    assert looks_only != torch.equal(own["pos_embed"], stored["pos_embed"])


def test_start_from_reuse_to_a_run_without_takes_what_has_a_counterpart(start: Path, tmp_path: Path) -> None:
    cascade = Cascade(replace(TINY_LOOKS, feature_reuse=None, relation_reuse=None))
    start_from(load(start), cascade, CLASSES, out=tmp_path / "out")
    state, stored = cascade.state_dict(), load(start).cascade.state_dict()
    differ = {key for key in state if key not in stored or not torch.equal(state[key], stored[key])}
    # The first stage reuses nothing; in the others what reads the reused features beside the tokens has another shape.
    assert differ == {
        f"stages.{stage}.blocks.{index}.{name}"
        for stage in (1, 2)
        for index in range(TINY_LOOKS.depth)
        for name in ("norm2.weight", "norm2.bias", "mlp.fc1.weight")
    } | {f"stages.{stage}.logit_share" for stage in (1, 2)}


def test_start_from_looks_only_leaves_what_comes_behind_them(start: Path, tmp_path: Path) -> None:
    cascade = Cascade(replace(TINY_LOOKS, feature_reuse=None, relation_reuse=None))
    before = snapshot(cascade)
    origin = start_from(load(start), cascade, CLASSES, out=tmp_path / "out", looks_only=True)
    parts = {key.split(".", 2)[2] for key in changed(before, cascade)}
    assert parts
    assert all(part.startswith(("embedding.trunk.", "pooled_head.")) for part in parts)
    assert origin["part"] == "looks"


def test_start_from_hybrid_takes_the_stem_too(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hybrid", randomised(TINY))
    cascade = Cascade(TINY)
    start_from(load(folder), cascade, CLASSES, out=tmp_path / "out")
    assert changed(snapshot(load(folder).cascade), cascade) == set()


def _with_another_first_look() -> CascadeConfig:
    looks = TINY_LOOKS.embedding.looks
    return replace(TINY_LOOKS, embedding=TrunkEmbeddingConfig(looks=(replace(looks[0], px=48), *looks[1:])))


@pytest.mark.parametrize(
    ("stored", "config", "looks_only", "message"),
    [
        (TINY_LOOKS, replace(TINY_LOOKS, embed_dim=24), False, r"embed_dim=12.*embed_dim=24"),
        (TINY_LOOKS, _with_another_first_look(), False, "no stage of 2x2 tokens"),
        (TINY.plain(2), TINY, False, "start has no stage of 4x4 tokens"),
        (TINY, TINY, True, "start has no trunks"),
    ],
)
def test_start_from_a_model_that_does_not_fit_raises(
    tmp_path: Path, stored: CascadeConfig, config: CascadeConfig, looks_only: bool, message: str
) -> None:
    folder = saved(tmp_path / "start", randomised(stored))
    with pytest.raises(ModelFormatError, match=message):
        start_from(load(folder), Cascade(config), CLASSES, out=tmp_path / "out", looks_only=looks_only)


def test_start_from_the_folder_to_write_raises(start: Path) -> None:
    with pytest.raises(ModelFormatError, match="would be overwritten"):
        start_from(load(start), Cascade(TINY_LOOKS), CLASSES, out=start)
