"""The effect of lowered thresholds under overload, on a simulated clock with recorded stage times.

    python benchmarks/shedding.py [--drop 0.01] [--thresholds 0.9] [--seconds 60] [--out FIGURES.json]

Poisson arrivals at a share of the capacity at the usual thresholds, with `stage_times.json` as `scheduling.py` wrote
it. Images, with their confidences and correctness, are drawn from the model's calibration table. Each load runs without
and with `DVT_SHED_ACCURACY_DROP`.
"""

import json
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scheduling import RECORDED, mean_seconds

from models import macs
from service.capacity.recorded import RecordedTimes
from service.capacity.simulation import SchedulerSimulation, Seconds
from service.configuration.shedding import ThresholdLadder
from service.engine.batch_limits import BatchLimits
from service.engine.load import Shedding
from service.engine.operating import parse_thresholds
from service.engine.policy import Policy
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.engine.task import Task
from weights import load
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import exit_stages

LOADS = (0.8, 1.1, 1.3, 2.0)
FULL = 64


class SheddingExits:
    """Images of a calibration table under a policy with load shedding, as in the worker.

    Attributes:
        right: images answered right.
        reasons: why images left.
        levels: load levels, one a batch.
    """

    def __init__(self, table: CalibrationTable, policy: Policy, images: int, ladder: ThresholdLadder | None) -> None:
        self._stages, num_images = table.confidence_EN.shape
        rows = np.random.default_rng(1).integers(0, num_images, images)
        self._confidence, self._correct = table.confidence_EN.T[rows].tolist(), table.correct_EN.T[rows].tolist()
        self._policy = policy
        self._shedding = None if ladder is None else Shedding(ladder, lambda: self.pressure())
        self.pressure: Callable[[], float] = lambda: 0.0
        self.right, self.reasons, self.levels = 0, Counter[str](), [0]

    def turn(self, now: float) -> None:
        """Update the load level."""
        if self._shedding is not None:
            self._shedding.update(now)
            self.levels.append(self._shedding.level(now))

    def idle(self, now: float) -> None:
        """Nothing waits."""
        if self._shedding is not None:
            self._shedding.idle(now)

    def leaves(self, task: Task, stage: int) -> bool:
        """Whether the image is confident enough, or at the last stage."""
        sure = self._confidence[task.task_id][stage]
        reason: str | None = self._policy.exit_reason(stage, sure, 1 if stage + 1 < self._stages else None)
        if reason is None and self._shedding is not None:
            lowered = self._shedding.threshold(stage, self._policy)
            reason = "load" if lowered is not None and sure >= lowered else None
        if reason is not None:
            self.right += self._correct[task.task_id][stage]
            self.reasons[reason] += 1
        return reason is not None


def simulate(
    table: CalibrationTable,
    policy: Policy,
    arrivals: list[float],
    seconds: Seconds,
    room: int,
    ladder: ThresholdLadder | None,
) -> dict[str, Any]:
    """Simulate all images; return the figures."""
    stages = len(table.confidence_EN)
    scheduler = Scheduler(stages, BatchLimits(stages, FULL), StageTimes(stages))
    exits = SheddingExits(table, policy, len(arrivals), ladder)
    simulation = SchedulerSimulation(scheduler, exits.leaves, seconds, room, on_turn=exits.turn, on_idle=exits.idle)
    exits.pressure = lambda: simulation.inflight / room
    outcome = simulation.open_loop(arrivals)
    answered = len(outcome.answered)
    p50, p99 = np.quantile([each.ended_at - each.arrived_at for each in outcome.answered], [0.5, 0.99])
    return {
        "answered_per_s": round(answered / outcome.ended_at, 1),
        "refused": round(outcome.refused / len(arrivals), 3),
        "accuracy": round(exits.right / answered, 4),
        "load_share": round(exits.reasons["load"] / answered, 3),
        "p50_ms": round(float(p50) * 1000, 1),
        "p99_ms": round(float(p99) * 1000, 1),
        "level_changes": sum(before != after for before, after in pairwise(exits.levels)),
    }


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    thresholds: Annotated[float | None, typer.Option(help="For all exits; the model's own when left out.")] = None,
    drop: Annotated[float, typer.Option(min=0, max=1, help="As DVT_SHED_ACCURACY_DROP.")] = 0.01,
    seconds: Annotated[float, typer.Option(min=1, help="Of arrivals.")] = 60.0,
    max_inflight: Annotated[int, typer.Option(min=1)] = 512,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Compare refusing with lowered thresholds."""
    stored = load(model)
    if stored.calibration is None:
        raise typer.BadParameter(f"{model} has no calibration table")
    stages = stored.manifest.architecture.num_stages
    chosen = stored.manifest.thresholds if thresholds is None else parse_thresholds(thresholds, stages)
    policy = Policy(thresholds=chosen, config_version=1, max_stage=stages - 1)
    walk_macs = tuple(accumulate(stage.total for stage in macs.stage_macs(stored.manifest.architecture)))
    ladder = ThresholdLadder(stored.calibration, walk_macs, drop)
    ladder.prepare(chosen)
    recorded = RecordedTimes.read(RECORDED)
    recorded.check(model, stages, FULL)
    times, exits = mean_seconds(recorded, 0.0), exit_stages(stored.calibration.confidence_EN, chosen)
    capacity = FULL / sum(float((exits >= stage).mean()) * times(stage, FULL) for stage in range(stages))
    rows = []
    for share in LOADS:
        gaps = np.random.default_rng(0).exponential(1 / (share * capacity), int(seconds * share * capacity))
        for name, used in (("refuses", None), ("gives way", ladder)):
            figures = simulate(stored.calibration, policy, np.cumsum(gaps).tolist(), times, max_inflight, used)
            rows.append({"load": share, "service": name, **figures})
    table = Table(*rows[0], title=f"{model}, drop {drop}, capacity {capacity:.0f} images/s")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=140).print(table)
    if out is not None:
        out.write_text(json.dumps({"thresholds": chosen, "drop": drop, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
