"""Accuracy of a model on unseen images: per exit, and over a grid of compute budgets.

Shapes: E exits, N images, K classes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.macs import baseline_macs
from weights.calibration.authors_thresholds import BUDGETS, authors_thresholds
from weights.calibration.calibrate import Judgement, cumulative_macs, judge
from weights.calibration.solver import Solver
from weights.calibration.table import CalibrationTable, calibration_table
from weights.calibration.thresholds import Floats, Outcome, simulate
from weights.store import Manifest

_NUM_BUDGETS = 20


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """One budget: thresholds are chosen on the calibration table and judged on the evaluation's images.

    Attributes:
        budget_macs: limit on mean MACs for which the thresholds were chosen.
    """

    budget_macs: float
    thresholds: tuple[float, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a model on one set of images.

    Attributes:
        curves: by method of choosing thresholds: `solver`, `shared` (one threshold for all exits) and `authors`.
    """

    name: str
    num_images: int
    baseline_macs: int
    walk_macs: tuple[int, ...]
    judgement: Judgement
    curves: dict[str, tuple[BudgetPoint, ...]]

    def report(self) -> dict[str, Any]:
        """The evaluation as JSON data."""
        return asdict(self)


def evaluate(
    manifest: Manifest, table: CalibrationTable, logits_ENK: Floats, labels_N: npt.NDArray[np.int64]
) -> Evaluation:
    """Judge a model on images that neither its weights nor its calibration table have seen.

    Args:
        table: the calibration table that thresholds are chosen on.
        logits_ENK: logits of the images to judge on.
    """
    architecture = manifest.architecture
    walk = cumulative_macs(architecture)
    judged = calibration_table(logits_ENK, labels_N, manifest.temperatures)
    shared = [(float(t),) * (len(walk) - 1) for t in np.round(np.arange(0, 1.02, 0.01), 2)]
    authors = [authors_thresholds(table.confidence_EN, budget) for budget in BUDGETS]
    solver = Solver(table.confidence_EN, table.correct_EN, walk, include=[*shared, *authors])
    budgets = np.linspace(walk[0], walk[-1], _NUM_BUDGETS)

    def chosen(candidates: list[tuple[float, ...]]) -> Callable[[float], tuple[float, ...]]:
        outcomes = [simulate(table.confidence_EN, table.correct_EN, walk, each) for each in candidates]

        def choose(budget: float) -> tuple[float, ...]:
            affordable = [
                (outcome.accuracy, -outcome.mean_macs, thresholds)
                for outcome, thresholds in zip(outcomes, candidates, strict=True)
                if outcome.mean_macs <= budget * (1 + 1e-12)
            ]
            return max(affordable)[2] if affordable else (0.0,) * (len(walk) - 1)

        return choose

    ways = {
        "solver": lambda budget: solver.for_macs(budget).thresholds,
        "shared": chosen(shared),
        "authors": chosen(authors),
    }
    curves = {}
    for way, choose in ways.items():
        points = []
        for budget in budgets.tolist():
            thresholds = choose(budget)
            outcome = simulate(judged.confidence_EN, judged.correct_EN, walk, thresholds)
            points.append(BudgetPoint(budget, thresholds, outcome))
        curves[way] = tuple(points)
    return Evaluation(
        name=manifest.name,
        num_images=len(labels_N),
        baseline_macs=baseline_macs(architecture),
        walk_macs=walk,
        judgement=judge(logits_ENK, labels_N, architecture, manifest.temperatures, manifest.thresholds),
        curves=curves,
    )
