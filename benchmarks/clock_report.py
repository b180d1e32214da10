"""The figures of `clock.py` as tables and as a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from service.capacity.machine import describe
from service.capacity.spread import Spread

ENOUGH = 0.85
"""The share of the MACs ratio that the time ratio must reach."""

ALONE = " alone"
"""Suffix of the names of single stages."""

_WAYS = {
    "solver": ("thresholds solved per exit", "#1f6feb", "o"),
    "shared": ("one threshold for all exits", "#8250df", "s"),
    "authors": ("exit shares u, u², u³", "#9a6700", "^"),
}


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    table = Table("exit", title=f"{figures['model']}, ms an image at batch {figures['batch_size']}")
    for heading in ("top-1", "stage: M MACs", "ms", "walk to here: M MACs", "ms"):
        table.add_column(heading, justify="right")
    for index, walk in enumerate(figures["exits"]):
        table.add_row(str(index), f"{walk['accuracy']:.2%}", *_costs(walk["stage"]), *_costs(walk))
    console.print(table)
    rivals = Table("single stage", title="Each beside the cheapest operating point that is at least as accurate")
    for heading in ("top-1", "M MACs", "ms", "point: top-1", "M MACs", "ms", "MACs ratio", "ms ratio", "kept"):
        rivals.add_column(heading, justify="right")
    for row in figures["rivals"]:
        best = ", the best exit" if row["name"] == figures["best_exit"] else ""
        cells = [f"{row['name']}{best}", f"{row['accuracy']:.2%}", *_costs(row)]
        if "beside" in row:
            point, clock = row["beside"], f"{Spread(**row['ms_ratio']):.2f}"
            kept = f"{row['kept']:.2f}{'' if row['enough'] else f', below {ENOUGH}'}"
            cells += [f"{point['accuracy']:.2%}", *_costs(point), f"{row['macs_ratio']:.2f}", clock, kept]
        rivals.add_row(*cells)
    console.print(rivals)
    for row in figures["rivals"]:
        if "exit_alone" in row and not row["name"].endswith(ALONE):
            ratio, single = row["exit_alone"]["ms_ratio"]["median"], row["exit_alone"]["beside"]["name"]
            console.print(f"{row['name']} takes {ratio:.2f} times as long as {single}, the cheapest at its accuracy")
    console.print(
        f"{figures['rounds']} rounds, medians (smallest-largest); {describe(figures['machine'])}; "
        f"{figures['device']}, {figures['dtype']}, {figures['date']}"
    )


def _costs(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['macs'] / 1e6:.1f}", f"{row['ms']['median']:.3f}"


def plot(figures: dict[str, Any], path: Path) -> None:
    """Plot accuracy over mean MACs and over milliseconds."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    macs, ms = figure.subplots(1, 2, sharey=True)
    _draw(macs, figures, lambda row: row["macs"] / 1e6)
    _draw(ms, figures, lambda row: row["ms"]["median"])
    macs.set(xlabel="mean MACs per image (millions)", ylabel="top-1 accuracy (%)")
    ms.set(xlabel=f"ms per image at batch {figures['batch_size']}, {figures['dtype']}")
    ms.legend(fontsize="small")
    figure.suptitle(f"{figures['model']}, {figures['images']:,} held-out images")
    figure.savefig(path, dpi=120)


def _draw(axes: Axes, figures: dict[str, Any], cost: Callable[[dict[str, Any]], float]) -> None:
    def line(rows: list[dict[str, Any]], label: str, **style: Any) -> None:
        axes.plot([cost(row) for row in rows], [100 * row["accuracy"] for row in rows], label=label, **style)

    for way, (label, colour, marker) in _WAYS.items():
        points = [point for point in figures["points"] if point["name"] == way]
        line(points, label, marker=marker, markersize=4, color=colour)
    line(figures["exits"], "all images at one exit", marker="x", linestyle="", color="#57606a")
    singles = [row for row in figures["rivals"] if row["name"].endswith(ALONE)]
    line(singles, "one stage alone", marker="+", markersize=9, linestyle="", color="#cf222e")
    for row in figures["rivals"]:
        if row not in singles:
            line([row], row["name"], marker="*", markersize=11, linestyle="")
    axes.grid(alpha=0.3)
