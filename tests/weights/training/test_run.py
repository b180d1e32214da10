from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images import encode, two_colour_parquet, write_parquet
from training import LOOKS, SMALL, changed, looking, run_of, saved, snapshot

from weights.card import TRUNK
from weights.data import DataError
from weights.store import ModelFormatError
from weights.training.recipe import RecipeError, recipe_for
from weights.training.run import TrainingRun, planned


def _small_run(folder: Path, **changes: Any) -> TrainingRun:
    return run_of(folder, "small", SMALL, **{"recipe": {"epochs": "2"}, **changes})


def test_planned_chooses_what_was_left_open_by_the_data(tmp_path: Path) -> None:
    plan = planned(run_of(tmp_path, "whole", replace(LOOKS, num_classes=9), recipe={}, holdout=None, seed=3))
    parts = plan.parts
    assert plan.holdout == 0.3
    assert len(parts.train) + len(parts.calibration) + len(parts.test) + len(parts.near_duplicates) == 60
    assert plan.cascade.config == LOOKS
    assert plan.recipe == recipe_for(LOOKS, len(parts.train), LOOKS.image_size, seed=3)
    assert (plan.origin, plan.trunk) == ({}, None)


def test_planned_again_is_the_same_and_other_values_are_those_asked_for(tmp_path: Path) -> None:
    first, again, other = (planned(_small_run(tmp_path, seed=seed)) for seed in (0, 0, 1))
    assert changed(snapshot(first.cascade), again.cascade) == set()
    assert list(first.parts.train) == list(again.parts.train) != list(other.parts.train)
    assert "stages.0.blocks.0.attn.qkv.weight" in changed(snapshot(first.cascade), other.cascade)
    assert other.recipe.seed == 1
    plan = planned(_small_run(tmp_path, recipe={"epochs": "3", "colour": "0.2"}, holdout=0.5, limit=40))
    assert (plan.recipe.epochs, plan.recipe.augmentation.colour, plan.holdout) == (3.0, 0.2, 0.5)
    assert len(plan.data) == 40


def test_planned_from_a_model_knows_its_origin_and_trunk(tmp_path: Path) -> None:
    trunk = [{"file": "a.pth", "sha256": "00ff"}]
    start = saved(tmp_path / "start", looking(), class_names=("red", "blue"), provenance={TRUNK: trunk})
    plan = planned(run_of(tmp_path, "whole", init=start, looks_only=True))
    assert (plan.origin["name"], plan.origin["part"], plan.trunk) == ("start", "looks", trunk)
    assert {"init name", "init part"} <= plan.fingerprint().keys()
    taken = set(plan.cascade.state_dict()) - changed(snapshot(looking()), plan.cascade)
    assert {"stages.2.pooled_head.weight", "stages.2.embedding.trunk.head.conv.weight"} <= taken
    assert "stages.2.head.weight" not in taken


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"frozen_blocks": "9"}, "frozen_blocks must be at most 8 for these looks, got 9"),
        ({"padding_px": "99"}, "padding_px must be below the images' [0-9]+ px, got 99"),
    ],
)
def test_planned_recipe_that_cannot_be_followed_raises(tmp_path: Path, recipe: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        planned(run_of(tmp_path, "whole", recipe=recipe))


def test_planned_folder_of_something_else_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    run = replace(_small_run(tmp_path), data=(tmp_path / "nothing.parquet",))
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "cat.jpg").touch()
    with pytest.raises(ModelFormatError, match="not a model folder"):
        planned(run)


@pytest.mark.parametrize(
    ("labels", "names", "changes", "message"),
    [
        ([0] * 20, ["cat"], {}, r"only the class 'cat'.*at least two"),
        ([0] * 40 + [1], ["cat", "dog"], {"holdout": 0.97, "seed": 2}, r"in 1 of the 2 classes: dog \(1\)"),
    ],
)
def test_planned_images_that_do_not_suffice_raise(
    tmp_path: Path, labels: list[int], names: list[str], changes: dict[str, Any], message: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 28, 28), dtype=np.uint8)
    data = write_parquet(tmp_path / "noise.parquet", [encode(image) for image in images], labels, names)
    with pytest.raises(DataError, match=message):
        planned(_small_run(tmp_path, data=(data,), **changes))


def _relabelled(run: TrainingRun) -> TrainingRun:
    two_colour_parquet(run.data[0], 60, side=SMALL.image_size, mislabelled=0.3)
    return run


def _moved(run: TrainingRun) -> TrainingRun:
    elsewhere = run.out.parent / "b"
    return replace(run, out=elsewhere / run.out.name, run_dir=elsewhere / run.run_dir.name, checkpoint_s=1.0)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda run: replace(run, recipe={**run.recipe, "epochs": "3"}), {"recipe epochs"}),
        (lambda run: replace(run, recipe={**run.recipe, "flip": "no"}), {"recipe flip"}),
        (lambda run: replace(run, seed=1), {"seed", "recipe seed"}),
        (_relabelled, {"images and labels"}),
        (lambda run: replace(run, architecture=SMALL.plain(4)), {"architecture"}),
        (lambda run: replace(run, preprocessing=replace(run.preprocessing, mean=(0.4, 0.4, 0.4))), {"preprocessing"}),
        (lambda run: replace(run, out=run.out.with_name("other")), {"out"}),
        (_moved, set()),
    ],
)
def test_fingerprint_differs_in_what_was_changed(
    tmp_path: Path, change: Callable[[TrainingRun], TrainingRun], names: set[str]
) -> None:
    run = _small_run(tmp_path, recipe={"epochs": "2", "batch_size": "8"})
    before = planned(run).fingerprint()
    after = planned(change(run)).fingerprint()
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == names
