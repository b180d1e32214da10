"""The ratios, from rounds whose every figure is known."""

from collections import Counter
from io import StringIO

import pytest
from cascades import TINY
from rich.console import Console

from service.capacity.compare import WAYS, Comparison, Round
from service.capacity.comparison_report import ideal_rate, print_report, ratios, report
from service.capacity.walks import Walk

SECONDS = {
    "cascade": 2.0,
    "cascade_without_engine": 1.6,
    "cascade_one_by_one": 20.0,
    "cascade_held_together": 8.0,
    "static": 6.0,
    "static_one_by_one": 10.0,
}


def one_round(scale: float = 1.0) -> Round:
    walks = {
        name: Walk(seconds=seconds * scale, macs=3000, exits=Counter({0: 60, 1: 20, 3: 20}), batch_sizes={0: [50, 50]})
        for name, seconds in SECONDS.items()
    }
    stage_s = {1: [0.004, 0.008, 0.02, 0.04], 32: [0.064, 0.32, 0.64, 0.96]}
    typical = {size: [2 * seconds for seconds in stages] for size, stages in stage_s.items()}
    flops = {"float32": 1000.0, "bfloat16": 4000.0}
    return Round(walks=walks, stage_s=stage_s, typical_stage_s=typical, matrix_flops=flops)


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(
        model="tiny",
        architecture=TINY,
        stage_macs=(10, 20, 30, 60),
        baseline_macs=90,
        thresholds=(0.5, 0.5, 0.5),
        data=None,
        num_images=100,
        device="cpu",
        dtype="float32",
        max_batch_size=64,
        max_inflight=64,
        rounds=[one_round(), one_round(2.0), one_round(4.0)],
    )


def test_ideal_rate_is_the_sum_of_what_reaches_each_stage_at_its_best(comparison):
    # 100% of 2 ms, 40% of 8 ms, 20% of 20 ms, 20% of 30 ms.
    only = one_round()
    assert ideal_rate(comparison, only, only.stage_s) == pytest.approx(
        1 / (0.002 + 0.4 * 0.008 + 0.2 * 0.02 + 0.2 * 0.03)
    )


def test_ratios_are_those_of_their_round(comparison):
    values = ratios(comparison, one_round())

    assert values["throughput_over_ideal"] == pytest.approx(50 * 0.0152)
    assert values["throughput_over_typical"] == pytest.approx(50 * 0.0304)
    assert values["over_without_engine"] == pytest.approx(0.8)
    assert values["speed_up_over_static"] == pytest.approx(3)
    assert values["macs_ratio"] == pytest.approx(3)
    assert values["speed_up_over_macs_ratio"] == pytest.approx(1)
    assert values["deep_stage_over_matrix_rate"] == pytest.approx(2 * 60 * 32 / 0.96 / 4000)
    assert values["over_one_by_one"] == pytest.approx(10)
    assert values["over_held_together"] == pytest.approx(4)
    assert values["batch_1_static_over_cascade"] == pytest.approx(0.5)


def test_report_is_median_and_extremes_over_the_rounds_and_can_be_printed(comparison):
    figures = report(comparison)

    assert figures["ways"]["cascade"]["images_per_s"] == {"median": 25.0, "min": 12.5, "max": 50.0}
    assert set(figures["ways"]) == set(WAYS)
    assert [row["reach_share"] for row in figures["stages"]] == [1.0, 0.4, 0.2, 0.2]
    assert figures["stages"][0]["mean_batch"] == 50
    assert (figures["stages"][0]["best_batch_size"], figures["stages"][1]["best_batch_size"]) == (32, 1)
    console = Console(width=200, file=StringIO())
    print_report(figures, console)
    printed = console.file.getvalue()
    for words in ("static ViT", "Random images", "random weights", "baseline MACs / mean MACs"):
        assert words in printed
