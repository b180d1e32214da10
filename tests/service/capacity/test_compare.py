"""`dvt bench engine` on a tiny cascade: everything runs; of times only their budget counts."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from service.capacity.compare import WAYS, Round, affordable_counts, compare, static_model
from service.capacity.walks import Walk
from service.capacity.workload import replayed_workload
from service.cli import app
from service.errors import InvalidParameterError
from service.settings import Settings


@pytest.fixture
def compared(stored, model):
    """`compared(images, seconds, **options)`: a comparison with the calibration's exits."""

    def run(images, seconds, batch_sizes=(1,), **options):
        settings = Settings(model=str(model), max_batch_size=4, max_inflight=16, device="cpu")
        workload = replayed_workload(stored, images, (0.5, 0.5, 0.5))
        return compare(stored, workload, settings, data=(), batch_sizes=batch_sizes, seconds=seconds, **options)

    return run


def test_compare_all_ways_bring_the_same_images_to_the_same_exits(compared):
    comparison = compared(16, 1e-9)

    (only,) = comparison.rounds
    assert set(only.walks) == set(WAYS)
    for name in ("cascade", "cascade_one_by_one", "cascade_held_together"):
        assert {stage: count for stage, count in only.walks[name].exits.items() if count} == {0: 8, 1: 4, 2: 2, 3: 2}
    assert only.walks["static"].macs == comparison.baseline_macs * 16
    assert set(only.stage_s) == {1}


@pytest.mark.parametrize(("seconds", "cascade", "static"), [(1.0, 32, 32), (21.0, 40, 160), (1e9, 200, 200)])
def test_affordable_counts_are_what_a_share_of_the_seconds_is_enough_for(seconds, cascade, static):
    exits = Counter({0: 10})
    walks = {name: Walk(seconds=0.25, exits=exits) for name in WAYS}
    walks["cascade_one_by_one"] = Walk(seconds=1.0, exits=exits)
    counts = affordable_counts(Round(walks=walks, stage_s={1: [0.5, 0.5]}), 200, seconds)

    assert counts == {name: cascade if name.startswith("cascade") else static for name in WAYS}


def test_compare_interrupted_keeps_the_complete_rounds(compared):
    def interrupt(number):
        def on_step(what, passed_s):
            if what == f"round {number}: request by request":
                raise KeyboardInterrupt

        return on_step

    assert len(compared(8, 1e9, on_step=interrupt(2)).rounds) == 1
    with pytest.raises(KeyboardInterrupt):
        compared(8, 1e9, on_step=interrupt(1))


def test_compare_batch_size_beyond_the_limit_is_refused(compared):
    with pytest.raises(InvalidParameterError, match="8 is more than the limit of 4"):
        compared(8, 1.0, batch_sizes=(1, 8))


def test_static_model_is_the_plain_vit_at_the_last_grid(stored):
    static = static_model(stored)

    assert static.cascade.config == stored.manifest.architecture.plain()
    assert static.manifest.thresholds == ()


def test_bench_engine_writes_the_figures_it_prints(model, tmp_path):
    out = tmp_path / "out.json"
    options = ["--images", "8", "--seconds", "1", "--batch-sizes", "1,2", "--max-batch-size", "4", "--device", "cpu"]
    result = CliRunner().invoke(app, ["bench", "engine", str(model), *options, "--json", str(out)])

    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["ways"]["cascade"]["images"] == 8
    assert [row["exit_share"] for row in figures["stages"]] == [0.5, 0.25, 0.125, 0.125]
    assert "throughput_over_ideal" in figures["ratios"]


def test_bench_engine_batch_sizes_that_are_no_numbers_are_refused(model):
    result = CliRunner().invoke(app, ["bench", "engine", str(model), "--batch-sizes", "1,x"])

    assert result.exit_code == 2
    assert "1,x" in result.output
