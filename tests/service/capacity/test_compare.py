"""`dvt bench engine` on a tiny cascade: everything runs, nothing is timed."""

import json

import pytest
from typer.testing import CliRunner

from service.capacity import stage_seconds as stage_times
from service.capacity.compare import WAYS, compare, static_model, steps
from service.capacity.workload import replayed_workload
from service.cli import app
from service.errors import InvalidParameterError
from service.settings import Settings


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setitem(stage_times.MATRIX_SIDES, "cpu", 64)


def test_compare_all_ways_bring_the_same_images_to_the_same_exits(stored, model):
    told = []
    settings = Settings(model=str(model), max_batch_size=4, max_inflight=16, device="cpu")
    workload = replayed_workload(stored, 16, (0.5, 0.5, 0.5))
    comparison = compare(stored, workload, settings, data=(), batch_sizes=[1], repeats=1, on_step=told.append)

    (only,) = comparison.rounds
    assert set(only.walks) == set(WAYS)
    for name in ("cascade", "cascade_without_engine", "cascade_one_by_one", "cascade_held_together"):
        assert {stage: count for stage, count in only.walks[name].exits.items() if count} == {0: 8, 1: 4, 2: 2, 3: 2}
    assert only.walks["static"].macs == comparison.baseline_macs * 16
    assert set(only.stage_s) == {1, 4}
    assert len(told) == steps(1)


def test_compare_batch_size_beyond_the_limit_is_refused(stored, model):
    workload = replayed_workload(stored, 8, (0.5, 0.5, 0.5))
    settings = Settings(model=str(model), max_batch_size=4)
    with pytest.raises(InvalidParameterError, match="8 is more than the limit of 4"):
        compare(stored, workload, settings, data=(), batch_sizes=[1, 8], repeats=1)


def test_static_model_is_the_plain_vit_at_the_last_grid(stored):
    static = static_model(stored)

    assert static.cascade.config == stored.manifest.architecture.plain()
    assert static.manifest.thresholds == ()


def test_bench_engine_writes_the_figures_it_prints(model, tmp_path):
    out = tmp_path / "out.json"
    options = ["--images", "8", "--repeats", "1", "--batch-sizes", "1,2", "--max-batch-size", "4", "--device", "cpu"]
    result = CliRunner().invoke(app, ["bench", "engine", str(model), *options, "--json", str(out)])

    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["images"] == 8
    assert [row["exit_share"] for row in figures["stages"]] == [0.5, 0.25, 0.125, 0.125]
    assert "throughput_over_ideal" in figures["ratios"]


def test_bench_engine_batch_sizes_that_are_no_numbers_are_refused(model):
    result = CliRunner().invoke(app, ["bench", "engine", str(model), "--batch-sizes", "1,x"])

    assert result.exit_code == 2
    assert "1,x" in result.output
