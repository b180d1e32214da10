from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascades import TINY
from training import looking, run_of, saved

from weights.training.run import PreparedRun, planned
from weights.training.summary import announcement, outcome


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    folder = tmp_path_factory.mktemp("run")
    return planned(run_of(folder, "whole", init=saved(folder / "start", looking())))


def test_announcement_counts_the_images_and_names_the_start(plan: PreparedRun) -> None:
    parts = plan.parts
    classes, first, second, third = announcement(plan).splitlines()
    assert classes == "images: " + ", ".join(
        f"{name} {count}" for name, count in zip(plan.data.class_names, plan.data.counts, strict=True)
    )
    assert first == (
        f"{len(parts.train)} images of 2 classes to train with, {len(parts.calibration)} to calibrate with, "
        f"{len(parts.test)} to judge on; starting from the weights of start"
    )
    assert second == (
        "epochs of each look: 32 px 2, 49 px 1, 63 px 0.5; then of the Transformers: 2, batches of 8, seed 0"
    )
    assert third == "augmentation: padding_px 28, flip 1"


@pytest.mark.parametrize(
    ("origin", "text"), [({}, "; from nothing"), ({"name": "a", "part": "looks"}, "; starting from the looks of a")]
)
def test_announcement_says_what_the_run_starts_from(plan: PreparedRun, origin: dict[str, Any], text: str) -> None:
    assert announcement(replace(plan, origin=origin)).splitlines()[1].endswith(text)


def test_announcement_of_a_run_without_looks_has_one_number_of_epochs(plan: PreparedRun, tmp_path: Path) -> None:
    settled = replace(plan, recipe=replace(plan.recipe, look_epochs=()))
    hybrid = planned(run_of(tmp_path, "hybrid", replace(TINY, num_classes=2), recipe={"epochs": "2"}))
    for each in (settled, hybrid):
        assert announcement(each).splitlines()[2].startswith("epochs: 2, batches of ")


def test_announcement_of_many_classes_names_the_smallest_and_the_largest_and_what_was_left_out(
    plan: PreparedRun,
) -> None:
    labels = np.repeat(np.arange(30), np.arange(1, 31))
    names = tuple(f"class {index}" for index in range(30))
    data = replace(plan.data, labels=labels, class_names=names, notes=("left out: 3 .heic",))
    notes, classes = announcement(replace(plan, data=data)).splitlines()[:2]
    assert (notes, classes) == ("left out: 3 .heic", "30 classes, from class 0 (1 images) to class 29 (30)")


def test_outcome_gives_every_exit_with_its_interval_and_the_folder(plan: PreparedRun) -> None:
    results = {"exit_accuracy": [0.5, 0.912], "exit_accuracy_interval": [(0.25, 0.75), (0.8, 0.96)]}
    first, second = outcome(plan, results).splitlines()
    assert first == (
        f"top-1 on {len(plan.parts.test)} held-out images by exit, with 95 % intervals: "
        "50.0% (25%-75%), 91.2% (80%-96%)"
    )
    assert second == f"finished: {plan.run.out}"
