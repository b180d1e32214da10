"""The effect of reuse: cascades that differ only in what they reuse, on images that none was trained on.

    python benchmarks/reuse_ablation.py DATA.parquet MODEL OTHER…

Each OTHER is compared with MODEL, exit by exit and over mean MACs, image by image: errors are those of the difference.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from weights.calibration.calibrate import cumulative_macs, held_out_logits
from weights.calibration.held_out import held_out
from weights.calibration.solver import Solver
from weights.calibration.table import calibration_table
from weights.calibration.thresholds import exit_stages
from weights.data import load_images
from weights.store import load

NUM_BUDGETS = 7


@dataclass(frozen=True, slots=True)
class Ablated:
    """One model on the images of the comparison.

    Attributes:
        correct_EN: whether each exit is right.
        confidence_EN: after temperature.
        solver: over its own calibration table.
    """

    name: str
    walk: tuple[int, ...]
    correct_EN: npt.NDArray[np.bool_]
    confidence_EN: npt.NDArray[np.float32]
    solver: Solver

    def within(self, macs: float) -> npt.NDArray[np.bool_]:
        """Whether each image is right with the thresholds chosen for this mean of MACs: [N]."""
        exits = exit_stages(self.confidence_EN, self.solver.for_macs(macs).thresholds)
        return np.asarray(self.correct_EN[exits, np.arange(len(exits))])


def ablated(model: Path, data: Path) -> Ablated:
    """Run a model on the images that neither its training nor its calibration used."""
    stored = load(model)
    assert stored.calibration is not None
    seen = stored.calibration
    manifest = stored.manifest
    images = held_out(manifest, [data], load_images([data], manifest.preprocessing)).test
    logits = held_out_logits(stored.cascade, images, manifest.preprocessing)
    table = calibration_table(logits, images.labels, manifest.temperatures)
    walk = cumulative_macs(manifest.architecture)
    solver = Solver(seen.confidence_EN, seen.correct_EN, walk)
    return Ablated(manifest.name, walk, table.correct_EN, table.confidence_EN, solver)


def difference(of: npt.NDArray[np.bool_], to: npt.NDArray[np.bool_]) -> str:
    """Mean and standard error of a difference in points, image by image."""
    apart = 100 * (of.astype(float) - to.astype(float))
    return f"{apart.mean():+.1f} ± {apart.std() / len(apart) ** 0.5:.1f}"


def main(data: Path, model: Path, others: Annotated[list[Path], typer.Argument()]) -> None:
    """Print both comparisons."""
    first, *rest = [ablated(each, data) for each in (model, *others)]
    exits = Table(title=f"top-1 by exit, {first.correct_EN.shape[1]} images; points against {first.name}")
    curves = Table(title="top-1 within mean MACs")
    for table, head in ((exits, "exit"), (curves, "mean MACs")):
        table.add_column(head)
        for each in (first, *rest):
            table.add_column(each.name, justify="right")
    for index, correct in enumerate(first.correct_EN):
        cells = [f"{correct.mean():.1%} at {first.walk[index] / 1e6:.1f} M"]
        for other in rest:
            macs = other.walk[index] / 1e6
            cells.append(f"{difference(other.correct_EN[index], correct)} at {macs:.1f} M")
        exits.add_row(str(index), *cells)
    dearest_start = max(each.walk[0] for each in (first, *rest))
    for budget in np.linspace(dearest_start, first.walk[-1], NUM_BUDGETS).tolist():
        right = first.within(budget)
        cells = [f"{right.mean():.1%}", *(difference(other.within(budget), right) for other in rest)]
        curves.add_row(f"{budget / 1e6:.1f} M", *cells)
    console = Console(width=140)
    console.print(exits)
    console.print(curves)


if __name__ == "__main__":
    typer.run(main)
