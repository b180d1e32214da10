"""The report of a comparison as JSON and as tables: figures with their spread, and ratios round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median_low
from typing import Any

from rich.console import Console
from rich.table import Table

from service.capacity.compare import DEEP_BATCH_SIZE, WAYS, Comparison, Round
from service.capacity.machine import describe, machine
from service.capacity.spread import Spread

_RATIO_TITLES = {
    "throughput_over_ideal": "throughput / ideal of the stages alone, best times",
    "throughput_over_typical": "throughput / ideal of the stages alone, median times",
    "over_without_engine": "throughput / the same batches without an engine",
    "speed_up_over_static": "throughput / static ViT's",
    "macs_ratio": "baseline MACs / mean MACs",
    "speed_up_over_macs_ratio": "speed-up over the static ViT / ratio of MACs",
    "deep_stage_over_matrix_rate": f"deepest stage at batch {DEEP_BATCH_SIZE} / matrix rate",
    "over_one_by_one": "throughput / request by request",
    "over_held_together": "throughput / batches held together",
    "batch_1_static_over_cascade": "batch 1: static ViT's time / cascade's time",
}
STATIC_NOTE = "The static ViT has random weights: only its speed counts."
REPLAY_NOTE = "Random images: they leave in the shares the calibration images would; all stages compute as ever."
DATA_NOTE = "Held-out images, which neither weights nor thresholds have seen."
HELD_NOTE = "Without an engine, held together and batch 1 run in a plain loop without queues, threads or admission."


def report(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON data; a spread is `{median, min, max}` over the rounds."""
    by_round = [ratios(comparison, each) for each in comparison.rounds]
    return {
        "model": comparison.model,
        "machine": machine(comparison.device),
        "device": comparison.device,
        "dtype": comparison.dtype,
        "images": comparison.num_images,
        "data": comparison.data,
        "thresholds": comparison.thresholds,
        "max_batch_size": comparison.max_batch_size,
        "max_inflight": comparison.max_inflight,
        "repeats": len(comparison.rounds),
        "notes": [DATA_NOTE if comparison.data else REPLAY_NOTE, STATIC_NOTE, HELD_NOTE],
        "ways": {name: _way(comparison, name) for name in WAYS},
        "stages": [_stage(comparison, stage) for stage in range(len(comparison.stage_macs))],
        "matrix_gflops": {
            dtype: _spread([each.matrix_flops[dtype] / 1e9 for each in comparison.rounds])
            for dtype in comparison.rounds[0].matrix_flops
        },
        "baseline_macs": comparison.baseline_macs,
        "ratios": {name: _spread([values[name] for values in by_round]) for name in _RATIO_TITLES},
    }


def ratios(comparison: Comparison, each: Round) -> dict[str, float]:
    """The ratios of one round."""
    rate = {name: comparison.num_images / walk.seconds for name, walk in each.walks.items()}
    macs_ratio = comparison.baseline_macs * comparison.num_images / each.walks["cascade"].macs
    deep = min(DEEP_BATCH_SIZE, comparison.max_batch_size)
    deep_flops = 2 * comparison.stage_macs[-1] * deep / each.stage_s[deep][-1]
    return {
        "throughput_over_ideal": rate["cascade"] / ideal_rate(comparison, each, each.stage_s),
        "throughput_over_typical": rate["cascade"] / ideal_rate(comparison, each, each.typical_stage_s),
        "over_without_engine": rate["cascade"] / rate["cascade_without_engine"],
        "speed_up_over_static": rate["cascade"] / rate["static"],
        "macs_ratio": macs_ratio,
        "speed_up_over_macs_ratio": rate["cascade"] / rate["static"] / macs_ratio,
        "deep_stage_over_matrix_rate": deep_flops / max(each.matrix_flops.values()),
        "over_one_by_one": rate["cascade"] / rate["cascade_one_by_one"],
        "over_held_together": rate["cascade"] / rate["cascade_held_together"],
        "batch_1_static_over_cascade": rate["cascade_one_by_one"] / rate["static_one_by_one"],
    }


def ideal_rate(comparison: Comparison, each: Round, stage_s: Mapping[int, Sequence[float]]) -> float:
    """Images per second if every stage ran at its best batch size without any other cost.

    Args:
        stage_s: seconds of each stage for a batch, by batch size.
    """
    seconds = 0.0
    for stage in range(len(comparison.stage_macs)):
        best = min(times[stage] / size for size, times in stage_s.items())
        seconds += reach_share(comparison, each, stage) * best
    return 1 / seconds


def reach_share(comparison: Comparison, each: Round, stage: int) -> float:
    """The share of images that reached a stage."""
    return sum(number for left, number in each.walks["cascade"].exits.items() if left >= stage) / comparison.num_images


def print_report(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `report` as tables."""
    console.print(_ways_table(figures))
    console.print(_stages_table(figures))
    table = Table("ratio", title="Ratios, round by round: median (smallest-largest)")
    table.add_column("", justify="right")
    for name, title in _RATIO_TITLES.items():
        table.add_row(title, f"{Spread(**figures['ratios'][name]):.3f}")
    console.print(table)
    rates = ", ".join(f"{dtype} {Spread(**rate):,.0f} GFLOP/s" for dtype, rate in figures["matrix_gflops"].items())
    console.print(f"matrix rate: {rates}")
    console.print(" ".join(figures["notes"]))
    console.print(f"{describe(figures['machine'])}; {figures['device']}, {figures['dtype']}")


def _ways_table(figures: dict[str, Any]) -> Table:
    thresholds = ", ".join(f"{value:.3f}" for value in figures["thresholds"])
    heading = f"{figures['model']}, {figures['images']} images, thresholds {thresholds}, {figures['repeats']} rounds"
    table = Table("", title=heading)
    for column in ("images/s", "ms an image", "p50 ms", "M MACs"):
        table.add_column(column, justify="right")
    for name, title in WAYS.items():
        way = figures["ways"][name]
        p50 = f"{Spread(**way['p50_ms']):.2f}" if way["p50_ms"] else ""
        rate = f"{Spread(**way['images_per_s']):,.0f}"
        table.add_row(title, rate, f"{Spread(**way['ms_per_image']):.3f}", p50, f"{way['macs_per_image'] / 1e6:,.1f}")
    return table


def _stages_table(figures: dict[str, Any]) -> Table:
    table = Table("stage", "grid", title="Stages: in this engine, and alone (best time an image)")
    for heading in ("M MACs", "reach it", "leave here", "mean batch", "best ms", "at batch"):
        table.add_column(heading, justify="right")
    for row in figures["stages"]:
        table.add_row(
            str(row["stage"]),
            f"{row['grid']}x{row['grid']}",
            f"{row['macs'] / 1e6:,.1f}",
            f"{row['reach_share']:.1%}",
            f"{row['exit_share']:.1%}",
            f"{row['mean_batch']:.1f}" if row["mean_batch"] else "-",
            f"{row['best_ms_per_image']:.4f}",
            str(row["best_batch_size"]),
        )
    return table


def _way(comparison: Comparison, name: str) -> dict[str, Any]:
    walks = [each.walks[name] for each in comparison.rounds]
    p50_ms = [median_low(walk.latencies_s) * 1e3 for walk in walks if walk.latencies_s]
    exits, num_images = walks[-1].exits, comparison.num_images
    return {
        "images_per_s": _spread([num_images / walk.seconds for walk in walks]),
        "ms_per_image": _spread([walk.seconds * 1e3 / num_images for walk in walks]),
        "p50_ms": _spread(p50_ms) if p50_ms else None,
        "macs_per_image": walks[-1].macs / num_images,
        "exit_shares": [exits[stage] / num_images for stage in sorted(exits)],
    }


def _stage(comparison: Comparison, stage: int) -> dict[str, Any]:
    last = comparison.rounds[-1]
    sizes = [size for each in comparison.rounds for size in each.walks["cascade"].batch_sizes.get(stage, [])]
    ms_per_image = {
        size: _spread([each.stage_s[size][stage] * 1e3 / size for each in comparison.rounds]) for size in last.stage_s
    }
    best = min(ms_per_image, key=lambda size: ms_per_image[size]["median"])
    return {
        "stage": stage,
        "grid": comparison.architecture.grids[stage],
        "macs": comparison.stage_macs[stage],
        "reach_share": reach_share(comparison, last, stage),
        "exit_share": last.walks["cascade"].exits[stage] / comparison.num_images,
        "mean_batch": fmean(sizes) if sizes else None,
        "best_ms_per_image": ms_per_image[best]["median"],
        "best_batch_size": best,
        "ms_per_image_by_batch_size": {str(size): spread for size, spread in ms_per_image.items()},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return asdict(Spread.of(values))
