from dataclasses import replace

import numpy as np
import pytest
from training import SMALL, looking, run_of, saved

from models.cascade import Cascade
from weights.training.run import PreparedRun, planned
from weights.training.summary import announcement, outcome


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    folder = tmp_path_factory.mktemp("run")
    return planned(run_of(folder, "whole", init=saved(folder / "start", looking())))


def test_announcement_counts_the_images_and_names_the_start(plan: PreparedRun) -> None:
    parts = plan.parts
    red, blue = plan.data.counts
    assert announcement(plan).splitlines() == [
        f"images: red {red}, blue {blue}",
        f"{len(parts.train)} images of 2 classes to train with, {len(parts.calibration)} to calibrate with, "
        f"{len(parts.test)} to judge on; starting from the weights of start",
        "epochs of each look: 32 px 1, 49 px 0, 63 px 0.5; then of the Transformers: 1, batches of 8, seed 0",
        "augmentation: padding_px 28, flip 1",
    ]


def test_announcement_says_what_the_run_starts_from_and_its_epochs_without_looks(plan: PreparedRun) -> None:
    settled = replace(plan, origin={}, recipe=replace(plan.recipe, look_epochs=()))
    for each in (settled, replace(settled, cascade=Cascade(SMALL), origin={"name": "a", "part": "looks"})):
        _, images, epochs, _ = announcement(each).splitlines()
        assert images.endswith("; starting from the looks of a" if each.origin else "; from nothing")
        assert epochs.startswith("epochs: 1, batches of ")


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
    assert outcome(plan, results).splitlines() == [
        f"top-1 on {len(plan.parts.test)} held-out images by exit, with 95 % intervals: "
        "50.0% (25%-75%), 91.2% (80%-96%)",
        f"finished: {plan.run.out}",
    ]
