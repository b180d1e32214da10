"""Pictures of an evaluation. Needs matplotlib, which is in the `plots` extra."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights.calibration.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WAYS = {
    "solver": ("thresholds solved per exit", "#1f6feb", "o"),
    "shared": ("one threshold for all exits", "#8250df", "s"),
    "authors": ("exit shares u, u², u³", "#9a6700", "^"),
}
_EXIT_COLOURS = ("#1a7f37", "#4ac26b", "#d4a72c", "#cf222e", "#82071e")


class PlotsMissingError(RuntimeError):
    """matplotlib is not installed; the text says how to install it."""


@dataclass(frozen=True, slots=True)
class StaticResult:
    """A static model to compare with: its accuracy on the same images, at a fixed cost."""

    name: str
    accuracy: float
    macs: float


def plot_accuracy(evaluation: Evaluation, statics: Sequence[StaticResult], path: Path) -> None:
    """Plot accuracy over mean MACs for each method of choosing thresholds, with single exits and static models.

    Raises:
        PlotsMissingError: without matplotlib.
    """
    with _figure(path) as axes:
        for way, curve in evaluation.curves.items():
            label, colour, marker = _WAYS[way]
            macs = [point.outcome.mean_macs / 1e6 for point in curve]
            axes.plot(
                macs,
                [100 * point.outcome.accuracy for point in curve],
                marker=marker,
                markersize=4,
                color=colour,
                label=label,
            )
        exits = [100 * accuracy for accuracy in evaluation.judgement.exit_accuracy]
        walk = [macs / 1e6 for macs in evaluation.walk_macs]
        axes.scatter(walk, exits, marker="x", color="#57606a", label="all images at one exit", zorder=3)
        for static in statics:
            axes.scatter(
                [static.macs / 1e6],
                [100 * static.accuracy],
                marker="*",
                s=120,
                label=static.name,
                zorder=4,
            )
        axes.axvline(evaluation.baseline_macs / 1e6, color="#57606a", linestyle=":", label="cost of a plain ViT, 14x14")
        axes.set(
            xlabel="mean MACs per image (millions)",
            ylabel="top-1 accuracy (%)",
            title=f"{evaluation.name}, {evaluation.num_images:,} held-out images",
        )
        axes.legend()
        axes.grid(alpha=0.3)


def plot_exit_shares(evaluation: Evaluation, path: Path) -> None:
    """Plot the share of images that leave at each exit over the compute budget.

    Raises:
        PlotsMissingError: without matplotlib.
    """
    with _figure(path) as axes:
        curve = evaluation.curves["solver"]
        shares = zip(*(point.outcome.exit_shares for point in curve), strict=True)
        axes.stackplot(
            [point.budget_macs / 1e6 for point in curve],
            [[100 * share for share in exit_shares] for exit_shares in shares],
            labels=[f"exit {stage}" for stage in range(len(evaluation.walk_macs))],
            colors=_EXIT_COLOURS,
        )
        axes.set(
            xlabel="budget, mean MACs per image (millions)",
            ylabel="images (%)",
            title=f"{evaluation.name}: where images leave",
            ylim=(0, 100),
        )
        axes.legend(loc="upper right")


@contextmanager
def _figure(path: Path) -> "Iterator[Axes]":
    """Yield an axes; save it as a PNG at the end."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsMissingError("pictures need matplotlib: pip install '.[plots]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    yield figure.subplots()
    figure.savefig(path, dpi=120)
