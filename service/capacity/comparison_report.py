"""The report of a comparison as JSON and as tables: figures with their spread, and ratios round by round."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, median_low
from typing import Any

from rich.console import Console
from rich.table import Table

from service.capacity.compare import WAYS, Comparison, Round
from service.capacity.machine import describe, machine
from service.capacity.spread import Spread

_RATIO_TITLES = {
    "speed_up_over_static": "throughput / static ViT's",
    "macs_ratio": "baseline MACs / mean MACs",
    "speed_up_over_macs_ratio": "speed-up over the static ViT / ratio of MACs",
    "over_one_by_one": "throughput / request by request",
    "over_held_together": "throughput / batches held together",
    "throughput_over_ideal": "throughput / ideal of the stages alone",
    "batch_1_static_over_cascade": "batch 1: static ViT's time / cascade's time",
}
STATIC_NOTE = "The static ViT has random weights: only its speed counts."
REPLAY_NOTE = "Random images: they leave in the shares the calibration images would; all stages compute as ever."
DATA_NOTE = "Held-out images, which neither weights nor thresholds have seen."
HELD_NOTE = "Held together and batch 1 run in a plain loop without queues, threads or admission."


def report(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON data; a spread is `{median, min, max}` over the rounds."""
    best_s = best_seconds(comparison)
    by_round = [ratios(comparison, each, best_s) for each in comparison.rounds]
    return {
        "model": comparison.model,
        "machine": machine(comparison.device),
        "device": comparison.device,
        "dtype": comparison.dtype,
        "data": comparison.data,
        "thresholds": comparison.thresholds,
        "max_batch_size": comparison.max_batch_size,
        "max_inflight": comparison.max_inflight,
        "rounds": len(comparison.rounds),
        "notes": [DATA_NOTE if comparison.data else REPLAY_NOTE, STATIC_NOTE, HELD_NOTE],
        "ways": {name: _way(comparison, name) for name in WAYS},
        "stages": [_stage(comparison, stage) for stage in range(len(comparison.stage_macs))],
        "baseline_macs": comparison.baseline_macs,
        "ratios": {name: _spread([values[name] for values in by_round]) for name in _RATIO_TITLES},
    }


def ratios(comparison: Comparison, each: Round, best_s: Sequence[float]) -> dict[str, float]:
    """The ratios of one round.

    Args:
        best_s: see `best_seconds`.
    """
    rate = {name: walk.images / walk.seconds for name, walk in each.walks.items()}
    walk = each.walks["cascade"]
    macs_ratio = comparison.baseline_macs * walk.images / walk.macs
    ideal_s = sum(reach_share(each, stage) * seconds for stage, seconds in enumerate(best_s))
    return {
        "speed_up_over_static": rate["cascade"] / rate["static"],
        "macs_ratio": macs_ratio,
        "speed_up_over_macs_ratio": rate["cascade"] / rate["static"] / macs_ratio,
        "over_one_by_one": rate["cascade"] / rate["cascade_one_by_one"],
        "over_held_together": rate["cascade"] / rate["cascade_held_together"],
        "throughput_over_ideal": rate["cascade"] * ideal_s,
        "batch_1_static_over_cascade": rate["cascade_one_by_one"] / rate["static_one_by_one"],
    }


def best_seconds(comparison: Comparison) -> list[float]:
    """The shortest time of an image in each stage alone, over all rounds and batch sizes."""
    return [
        min(each.stage_s[size][stage] / size for each in comparison.rounds for size in each.stage_s)
        for stage in range(len(comparison.stage_macs))
    ]


def reach_share(each: Round, stage: int) -> float:
    """The share of images that reached a stage."""
    walk = each.walks["cascade"]
    return sum(number for left, number in walk.exits.items() if left >= stage) / walk.images


def print_report(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `report` as tables."""
    thresholds = ", ".join(f"{value:.3f}" for value in figures["thresholds"])
    ways = Table("", title=f"{figures['model']}, thresholds {thresholds}, {figures['rounds']} rounds")
    for column in ("images", "images/s", "p50 ms", "M MACs an image"):
        ways.add_column(column, justify="right")
    for name, title in WAYS.items():
        way = figures["ways"][name]
        p50 = f"{Spread(**way['p50_ms']):.2f}" if way["p50_ms"] else ""
        rate = f"{Spread(**way['images_per_s']):,.0f}"
        ways.add_row(title, str(way["images"]), rate, p50, f"{way['macs_per_image'] / 1e6:,.1f}")
    console.print(ways)
    console.print(_stages_table(figures))
    table = Table("ratio", title="Ratios, round by round: median (smallest-largest)")
    table.add_column("", justify="right")
    for name, title in _RATIO_TITLES.items():
        table.add_row(title, f"{Spread(**figures['ratios'][name]):.3f}")
    console.print(table)
    console.print(" ".join(figures["notes"]))
    console.print(f"{describe(figures['machine'])}; {figures['device']}, {figures['dtype']}")


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
    return {
        "images": walks[-1].images,
        "images_per_s": _spread([walk.images / walk.seconds for walk in walks]),
        "p50_ms": _spread(p50_ms) if p50_ms else None,
        "macs_per_image": walks[-1].macs / walks[-1].images,
    }


def _stage(comparison: Comparison, stage: int) -> dict[str, Any]:
    last = comparison.rounds[-1]
    sizes = [size for each in comparison.rounds for size in each.walks["cascade"].batch_sizes.get(stage, [])]
    ms_per_image = {
        size: _spread([each.stage_s[size][stage] * 1e3 / size for each in comparison.rounds]) for size in last.stage_s
    }
    best = min(ms_per_image, key=lambda size: ms_per_image[size]["min"])
    return {
        "stage": stage,
        "grid": comparison.architecture.grids[stage],
        "macs": comparison.stage_macs[stage],
        "reach_share": reach_share(last, stage),
        "exit_share": last.walks["cascade"].exits[stage] / last.walks["cascade"].images,
        "mean_batch": fmean(sizes) if sizes else None,
        "best_ms_per_image": ms_per_image[best]["min"],
        "best_batch_size": best,
        "ms_per_image_by_batch_size": {str(size): spread for size, spread in ms_per_image.items()},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return asdict(Spread.of(values))
