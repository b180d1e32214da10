"""The ratios, from rounds whose every figure is known."""

from collections import Counter
from io import StringIO

import pytest
from cascades import TINY
from rich.console import Console

from service.capacity.compare import WAYS, Comparison, Round
from service.capacity.comparison_report import best_seconds, print_report, ratios, report
from service.capacity.walks import Walk

SECONDS = {
    "cascade": 2.0,
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
    return Round(walks=walks, stage_s={size: [scale * each for each in row] for size, row in stage_s.items()})


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(
        model="tiny",
        architecture=TINY,
        stage_macs=(10, 20, 30, 60),
        baseline_macs=90,
        thresholds=(0.5, 0.5, 0.5),
        data=None,
        device="cpu",
        dtype="float32",
        max_batch_size=64,
        max_inflight=64,
        rounds=[one_round(), one_round(2.0), one_round(4.0)],
    )


def test_best_seconds_are_of_the_best_round_and_batch_size(comparison):
    assert best_seconds(comparison) == pytest.approx([0.002, 0.008, 0.02, 0.03])


def test_ratios_are_those_of_their_round(comparison):
    values = ratios(comparison, one_round(), best_seconds(comparison))

    # Of the stages alone: 100% of 2 ms, 40% of 8 ms, 20% of 20 ms, 20% of 30 ms.
    assert values["throughput_over_ideal"] == pytest.approx(50 * 0.0152)
    assert values["speed_up_over_static"] == pytest.approx(3)
    assert values["macs_ratio"] == pytest.approx(3)
    assert values["speed_up_over_macs_ratio"] == pytest.approx(1)
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
