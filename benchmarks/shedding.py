"""What thresholds that give way bring under too much load, on a simulated clock with recorded stage times.

    python benchmarks/shedding.py [--drop 0.01] [--thresholds 0.9] [--seconds 60] [--out FIGURES.json]

Poisson arrivals at a share of the capacity at the usual thresholds, with `stage_times.json` as `scheduling.py` wrote
it. Images, their confidences and what was right are drawn from the model's calibration table. Each load runs without
and with `DVT_SHED_ACCURACY_DROP`.
"""

import json
from collections import Counter, deque
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scheduling import NO_PIXELS, RECORDED, SIZES, TimeOf, time_of

from models import macs
from service.engine.batch_limits import BatchLimits
from service.engine.load import Shedding
from service.engine.operating import parse_thresholds
from service.engine.policy import Policy
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.engine.task import Task
from service.shedding import ThresholdLadder
from weights import load
from weights.calibration.table import CalibrationTable
from weights.calibration.thresholds import exit_stages

LOADS = (0.8, 1.1, 1.3, 2.0)


def simulate(
    table: CalibrationTable,
    policy: Policy,
    arrivals: list[float],
    seconds: TimeOf,
    room: int,
    ladder: ThresholdLadder | None,
) -> dict[str, Any]:
    """Send every image through, and tell what became of them."""
    stages, num_images = table.confidence_EN.shape
    rows = np.random.default_rng(1).integers(0, num_images, len(arrivals))
    confidence, correct = table.confidence_EN.T[rows].tolist(), table.correct_EN.T[rows].tolist()
    scheduler = Scheduler(stages, BatchLimits(stages, max(SIZES)), StageTimes(stages))
    now, inflight, refused, right = 0.0, 0, 0, 0
    shedding = None if ladder is None else Shedding(ladder, lambda: inflight / room)
    waits, reasons, levels = list[float](), Counter[str](), [0]
    due = deque(enumerate(arrivals))
    while True:
        while due and due[0][1] <= now:
            number, at = due.popleft()
            if inflight >= room:
                refused += 1
            else:
                inflight += 1
                scheduler.add(Task(task_id=number, pixels=NO_PIXELS, policy=policy, submitted_at=at), at)
        if shedding is not None:
            shedding.update(now)
            levels.append(shedding.level(now))
        batch = scheduler.next_step(now).batch
        if batch is None:
            if not due:
                break
            if shedding is not None:
                shedding.idle(now)
            now = due[0][1]
            continue
        lowered = None if shedding is None else shedding.threshold(batch.stage, policy)
        now += seconds(batch.stage, len(batch.tasks))
        for task in batch.tasks:
            sure = confidence[task.task_id][batch.stage]
            reason = policy.exit_reason(batch.stage, sure, 1 if batch.stage + 1 < stages else None)
            if reason is None and (lowered is None or sure < lowered):
                task.stage += 1
                scheduler.add(task, now)
                continue
            inflight -= 1
            right += correct[task.task_id][batch.stage]
            reasons[reason or "load"] += 1
            waits.append(now - task.submitted_at)
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    return {
        "answered_per_s": round(len(waits) / now, 1),
        "refused": round(refused / len(arrivals), 3),
        "accuracy": round(right / len(waits), 4),
        "load_share": round(reasons["load"] / len(waits), 3),
        "p50_ms": round(float(p50) * 1000, 1),
        "p99_ms": round(float(p99) * 1000, 1),
        "level_changes": sum(before != after for before, after in pairwise(levels)),
    }


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    thresholds: Annotated[float | None, typer.Option(help="For all exits; the model's own when left out.")] = None,
    drop: Annotated[float, typer.Option(min=0, max=1, help="As DVT_SHED_ACCURACY_DROP.")] = 0.01,
    seconds: Annotated[float, typer.Option(min=1, help="Of arrivals.")] = 60.0,
    max_inflight: Annotated[int, typer.Option(min=1)] = 512,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Compare refusing with giving way."""
    stored = load(model)
    if stored.calibration is None:
        raise typer.BadParameter(f"{model} has no calibration table")
    stages = stored.manifest.architecture.num_stages
    chosen = stored.manifest.thresholds if thresholds is None else parse_thresholds(thresholds, stages)
    policy = Policy(thresholds=chosen, config_version=1, max_stage=stages - 1)
    walk_macs = tuple(accumulate(stage.total for stage in macs.stage_macs(stored.manifest.architecture)))
    ladder = ThresholdLadder(stored.calibration, walk_macs, drop)
    times = time_of(json.loads(RECORDED.read_text()), 0.0)
    exits, full = exit_stages(stored.calibration.confidence_EN, chosen), max(SIZES)
    capacity = full / sum(float((exits >= stage).mean()) * times(stage, full) for stage in range(stages))
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
