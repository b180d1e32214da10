from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cascades import TINY, TINY_LOOKS, randomised
from training import changed, saved, snapshot

from models.cascade import Cascade
from models.config import CascadeConfig, TrunkEmbeddingConfig
from weights.store import ModelFormatError, StoredModel, load
from weights.training.initial import start_from

CLASSES = tuple("abcde")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return load(saved(tmp_path_factory.mktemp("models") / "start", randomised(TINY_LOOKS)))


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return load(saved(tmp_path_factory.mktemp("models") / "hybrid", randomised(TINY)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_start_from_same_classes_takes_every_weight(start: StoredModel, hybrid: StoredModel, out: Path) -> None:
    cascade = Cascade(TINY_LOOKS)
    origin = start_from(start, cascade, CLASSES, out=out)
    shares = {f"stages.{stage}.logit_share" for stage in (1, 2)}  # which calibration chooses anew
    assert changed(snapshot(start.cascade), cascade) == shares
    assert origin == {"name": "start", "sha256": start.sha256}
    cascade = Cascade(TINY)
    start_from(hybrid, cascade, CLASSES, out=out)
    assert changed(snapshot(hybrid.cascade), cascade) == set()


@pytest.mark.parametrize("classes", [("cat", "dog"), tuple("vwxyz")])
def test_start_from_other_classes_keeps_new_classifiers_only(
    start: StoredModel, out: Path, classes: tuple[str, ...]
) -> None:
    cascade = Cascade(replace(TINY_LOOKS, num_classes=len(classes)))
    before = snapshot(cascade)
    start_from(start, cascade, classes, out=out)
    kept = {key for key in set(before) - changed(before, cascade) if not key.endswith("num_batches_tracked")}
    assert {key.split(".")[2] for key in kept} == {"head", "pooled_head", "logit_share"}
    assert len(kept) == 4 * TINY_LOOKS.num_stages + 2


@pytest.mark.parametrize("looks_only", [True, False])
def test_start_from_static_vit_takes_the_stage_of_its_grid(start: StoredModel, out: Path, looks_only: bool) -> None:
    cascade = Cascade(TINY_LOOKS.plain(4))
    start_from(start, cascade, CLASSES, out=out, looks_only=looks_only)
    own, stored = cascade.stages[0].state_dict(), start.cascade.stages[2].state_dict()
    expected = {key for key, value in own.items() if key in stored and stored[key].shape == value.shape}
    parts = {"cls_token", "pos_embed", "head.weight", "blocks.0.attn.qkv.weight", "embedding.tokens.0.proj.weight"}
    assert parts <= expected
    if looks_only:
        expected = {key for key in expected if key.startswith(("embedding.trunk.", "pooled_head."))}
    assert all(torch.equal(own[key], stored[key]) for key in expected)
    assert looks_only != torch.equal(own["pos_embed"], stored["pos_embed"])


def test_start_from_reuse_to_a_run_without_takes_what_has_a_counterpart(start: StoredModel, out: Path) -> None:
    cascade = Cascade(replace(TINY_LOOKS, feature_reuse=None, relation_reuse=None))
    before = snapshot(cascade)
    origin = start_from(start, cascade, CLASSES, out=out, looks_only=True)
    parts = {key.split(".", 2)[2] for key in changed(before, cascade)}
    assert parts
    assert all(part.startswith(("embedding.trunk.", "pooled_head.")) for part in parts)
    assert origin["part"] == "looks"

    start_from(start, cascade, CLASSES, out=out)
    state, stored = cascade.state_dict(), start.cascade.state_dict()
    differ = {key for key in state if key not in stored or not torch.equal(state[key], stored[key])}
    # The first stage reuses nothing; in the others what reads the reused features beside the tokens has another shape.
    assert {key.split(".", 2)[2] for key in differ} == {
        "logit_share",
        *(f"blocks.{index}.{name}" for index in (0, 1) for name in ("norm2.weight", "norm2.bias", "mlp.fc1.weight")),
    }


def _with_another_first_look() -> CascadeConfig:
    looks = TINY_LOOKS.embedding.looks
    return replace(TINY_LOOKS, embedding=TrunkEmbeddingConfig(looks=(replace(looks[0], px=48), *looks[1:])))


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        ("start", replace(TINY_LOOKS, embed_dim=24), r"embed_dim=12.*embed_dim=24"),
        ("start", _with_another_first_look(), "no stage of 2x2 tokens"),
        ("hybrid", replace(TINY, grids=(2, 3)), "hybrid has no stage of 3x3 tokens"),
    ],
)
def test_start_from_a_model_that_does_not_fit_raises(
    request: pytest.FixtureRequest, out: Path, model: str, config: CascadeConfig, message: str
) -> None:
    with pytest.raises(ModelFormatError, match=message):
        start_from(request.getfixturevalue(model), Cascade(config), CLASSES, out=out)


def test_start_from_a_model_without_trunks_or_the_folder_to_write_raises(hybrid: StoredModel, out: Path) -> None:
    with pytest.raises(ModelFormatError, match="hybrid has no trunks"):
        start_from(hybrid, Cascade(TINY), CLASSES, out=out, looks_only=True)
    with pytest.raises(ModelFormatError, match="would be overwritten"):
        start_from(hybrid, Cascade(TINY), CLASSES, out=hybrid.path)
