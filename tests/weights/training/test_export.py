from pathlib import Path

import pytest
from training import CPU, SMALL, changed, run_of, silent, snapshot

from models.config import CascadeConfig
from weights.card import TRUNK
from weights.store import load
from weights.training.export import export, wilson_interval
from weights.training.run import PreparedRun, planned
from weights.training.trainer import Trainer


def _untrained(folder: Path, config: CascadeConfig = SMALL) -> tuple[PreparedRun, Trainer]:
    plan = planned(run_of(folder, "small", config, recipe={"epochs": "1"}, seed=4))
    trainer = Trainer(plan.cascade, plan.data, plan.parts.train, plan.run.preprocessing, plan.recipe, CPU, silent)
    return plan, trainer


def test_export_writes_the_weights_calibrated_and_judged_and_tells_how_they_were_made(tmp_path: Path) -> None:
    plan, trainer = _untrained(tmp_path)
    told: list[tuple[str, int, int]] = []
    results = export(plan, trainer, 7200.0, lambda *what: told.append(what))
    stored = load(plan.run.out)
    assert changed(snapshot(trainer.cascade), stored.cascade) == set()
    manifest, provenance = stored.manifest, stored.manifest.provenance
    assert (manifest.name, manifest.class_names) == ("small", ("red", "blue"))
    assert (manifest.architecture, manifest.preprocessing) == (SMALL, plan.run.preprocessing)
    assert len(manifest.thresholds) == 3
    assert stored.calibration is not None
    assert stored.calibration.correct_EN.shape == (4, len(plan.parts.calibration))
    parts = [("calibrating", len(plan.parts.calibration)), ("judging", len(plan.parts.test))]
    assert [(what, total) for what, done, total in told if done == total] == parts
    assert provenance["data"] == "train.parquet"
    assert provenance["split"] == plan.parts.provenance(0.4, 4)
    assert (provenance["recipe"]["epochs"], provenance["recipe"]["seed"]) == (1.0, 4)
    assert provenance["recipe"]["augmentation"]["padding_px"] == plan.recipe.augmentation.padding_px
    assert (provenance["hours"], provenance["results"]["exit_accuracy"]) == (2.0, list(results["exit_accuracy"]))
    assert "of a CPU" in provenance["hardware"]
    assert not {"init", TRUNK} & provenance.keys()
    assert len(results["exit_accuracy_interval"]) == 4
    for accuracy, (low, high) in zip(results["exit_accuracy"], results["exit_accuracy_interval"], strict=True):
        assert 0 <= low <= accuracy <= high <= 1
        assert high - low > 0.15  # few images tell little


def test_export_plain_vit_has_no_thresholds(tmp_path: Path) -> None:
    plan, trainer = _untrained(tmp_path, SMALL.plain(4))
    export(plan, trainer, 1.0, silent)
    manifest, card = load(plan.run.out).manifest, (plan.run.out / "README.md").read_text()
    assert (manifest.architecture.grids, manifest.thresholds) == ((4,), ())
    assert "A plain Vision Transformer of 4x4 tokens for 2 classes" in card
    assert "Default thresholds" not in card


@pytest.mark.parametrize(
    ("right", "total", "expected"), [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (15, 20, (0.5313, 0.8881))]
)
def test_wilson_interval_known_counts_are_those_of_the_tables(
    right: int, total: int, expected: tuple[float, float]
) -> None:
    assert wilson_interval(right, total) == pytest.approx(expected, abs=1e-4)
