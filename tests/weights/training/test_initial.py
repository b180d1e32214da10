from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY, TINY_LOOKS, randomised
from training import changed, saved, snapshot

from models.cascade import Cascade
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
    assert changed(snapshot(stored.cascade), cascade) == set()
    assert origin == {"name": "start", "sha256": stored.sha256}


def test_start_from_other_classes_keeps_new_classifiers_only(start: Path, tmp_path: Path) -> None:
    cascade = Cascade(replace(TINY_LOOKS, num_classes=2))
    before = snapshot(cascade)
    start_from(load(start), cascade, ("cat", "dog"), out=tmp_path / "out")
    kept = {key for key in set(before) - changed(before, cascade) if not key.endswith("num_batches_tracked")}
    assert {key.split(".")[2] for key in kept} == {"head", "pooled_head"}
    assert len(kept) == 4 * TINY_LOOKS.num_stages


def test_start_from_as_many_other_classes_keeps_new_classifiers(start: Path, tmp_path: Path) -> None:
    cascade = Cascade(TINY_LOOKS)
    before = snapshot(cascade)
    start_from(load(start), cascade, tuple("vwxyz"), out=tmp_path / "out")
    assert not any("head." in key and "trunk" not in key for key in changed(before, cascade))


@pytest.mark.parametrize(("grid", "stage"), [(2, 0), (4, 2)])
def test_start_from_static_vit_takes_the_stage_of_its_grid(start: Path, tmp_path: Path, grid: int, stage: int) -> None:
    cascade = Cascade(TINY_LOOKS.plain(grid))
    start_from(load(start), cascade, CLASSES, out=tmp_path / "out", looks_only=True)
    own, stored = cascade.stages[0].state_dict(), load(start).cascade.stages[stage].state_dict()
    taken = {key for key in own if torch.equal(own[key], stored.get(key, torch.empty(0)))}
    assert {key for key in own if key.startswith(("embedding.trunk.", "pooled_head."))} <= taken


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


def test_start_from_another_architecture_raises_naming_both(start: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"embed_dim=12.*embed_dim=24"):
        start_from(load(start), Cascade(replace(TINY_LOOKS, embed_dim=24)), CLASSES, out=tmp_path / "out")


def test_start_from_without_a_stage_of_that_look_raises(start: Path, tmp_path: Path) -> None:
    looks = TINY_LOOKS.embedding.looks
    other = replace(TINY_LOOKS.embedding, looks=(replace(looks[0], px=48), *looks[1:]))
    with pytest.raises(ModelFormatError, match="no stage of 2x2 tokens"):
        start_from(load(start), Cascade(replace(TINY_LOOKS, embedding=other)), CLASSES, out=tmp_path / "out")


def test_start_from_the_folder_to_write_raises(start: Path) -> None:
    with pytest.raises(ModelFormatError, match="would be overwritten"):
        start_from(load(start), Cascade(TINY_LOOKS), CLASSES, out=start)
