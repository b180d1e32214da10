"""Which stage should run next? Scheduling policies on a simulated clock, with stage times recorded on this machine.

    python benchmarks/scheduling.py [--record] [--thresholds 0.9] [--launch-ms 0] [--out FIGURES.json]

`--record` runs the real stages first and writes `stage_times.json` beside this file: stage x batch size -> seconds.
Each image exits where the model's calibration table says that it does. Closed loop: `--clients` send their next image
as soon as the last is answered. Open loop: Poisson arrivals at a share of the capacity (images a second if every batch
were full); beyond `--max-inflight` images they are refused. `--launch-ms` adds a fixed cost to every batch, as a
device has that is bound by its launches: an assumption, not a measurement.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from service.engine.batch_limits import BatchLimits
from service.engine.operating import parse_thresholds
from service.engine.policy import Policy
from service.engine.runner import TorchRunner
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.engine.task import Task
from weights import load
from weights.calibration.thresholds import exit_stages
from weights.store import StoredModel

RECORDED = Path(__file__).with_name("stage_times.json")
SIZES = (1, 2, 4, 8, 16, 32, 64)
OPEN_LOADS = (0.5, 0.8, 1.0, 2.0)
NO_PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)

TimeOf = Callable[[int, int], float]


class FullestFirst(Scheduler):
    """The stage with the largest batch, among equals the deepest."""

    def _preferred(self, ready: Sequence[int]) -> int:
        return max(ready, key=lambda stage: (min(len(self._queues[stage]), self._limits[stage]), stage))


class DeepestFirst(Scheduler):
    """The deepest stage that has anything to do."""

    def _preferred(self, ready: Sequence[int]) -> int:
        return max(ready)


class OldestFirst(Scheduler):
    """The stage whose first task was submitted first; with one timeout for all, the earliest deadline."""

    def _preferred(self, ready: Sequence[int]) -> int:
        return min(ready, key=lambda stage: (self._queues[stage][0].submitted_at, -stage))


POLICIES = {
    "full, else deepest": Scheduler,
    "fullest": FullestFirst,
    "deepest": DeepestFirst,
    "oldest": OldestFirst,
}
"""The first is the service's own."""


def record(stored: StoredModel, repeats: int) -> dict[str, Any]:
    """Median seconds of every stage at every batch size, in alternating order."""
    manifest = stored.manifest
    runner = TorchRunner(
        stored.cascade,
        mean=manifest.preprocessing.mean,
        std=manifest.preprocessing.std,
        temperatures=manifest.temperatures,
        max_batch_size=max(SIZES),
        capacity=max(SIZES),
    )
    runner.warm_up()
    stages, side = manifest.architecture.num_stages, manifest.architecture.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (max(SIZES), 3, side, side), dtype=np.uint8)
    policy = Policy(thresholds=(2.0,) * (stages - 1), config_version=1, max_stage=stages - 1)
    ids, seconds = count(), {(stage, size): list[float]() for stage in range(stages) for size in SIZES}
    for _ in range(repeats):
        for size in SIZES:
            tasks = [Task(task_id=next(ids), pixels=image, policy=policy, submitted_at=0.0) for image in pixels[:size]]
            for stage in range(stages):
                started = time.perf_counter()
                runner.run(stage, tasks)
                runner.keep(range(size) if stage + 1 < stages else ())
                seconds[stage, size].append(time.perf_counter() - started)
            runner.release(tasks)
    return {
        "model": manifest.name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "sizes": SIZES,
        "seconds": [[round(statistics.median(seconds[stage, size]), 6) for size in SIZES] for stage in range(stages)],
    }


def time_of(recorded: dict[str, Any], launch_s: float) -> TimeOf:
    """Seconds of a stage at any batch size, between the recorded ones on straight lines."""
    tables = [np.interp(np.arange(max(SIZES) + 1), recorded["sizes"], row) for row in recorded["seconds"]]
    return lambda stage, size: float(tables[stage][size]) + launch_s


def simulate(
    scheduler: Scheduler, exit_of: Sequence[int], arrivals: Sequence[float], clients: int, seconds: TimeOf, room: int
) -> dict[str, Any]:
    """Send every image through and tell what became of them.

    Args:
        arrivals: seconds of each image's arrival, ascending; empty for a closed loop of `clients`.
        room: images in flight beyond which one is refused.
    """
    policy = Policy(thresholds=(), config_version=1, max_stage=0)
    now, inflight, refused = 0.0, 0, 0
    answered: list[tuple[float, float]] = []
    batches: list[list[int]] = [[] for _ in scheduler.queue_depths()]
    due = deque(arrivals or [0.0] * clients)
    images_left = iter(range(len(exit_of)))
    while True:
        while due and due[0] <= now:
            at, number = due.popleft(), next(images_left, None)
            if number is None:
                due.clear()
            elif inflight >= room:
                refused += 1
            else:
                inflight += 1
                scheduler.add(Task(task_id=number, pixels=NO_PIXELS, policy=policy, submitted_at=at), at)
        batch = scheduler.next_step(now).batch
        if batch is None:
            if not due:
                return figures(answered, batches, refused)
            now = due[0]
            continue
        batches[batch.stage].append(len(batch.tasks))
        now += seconds(batch.stage, len(batch.tasks))
        for task in batch.tasks:
            if exit_of[task.task_id] > batch.stage:
                task.stage += 1
                scheduler.add(task, now)
            else:
                inflight -= 1
                answered.append((now, now - task.submitted_at))
                if not arrivals:
                    due.append(now)


def figures(answered: Sequence[tuple[float, float]], batches: Sequence[Sequence[int]], refused: int) -> dict[str, Any]:
    """Rates and waits of the middle three fifths, without the beginning and the end; batches and refusals of all."""
    middle = answered[len(answered) // 5 : 4 * len(answered) // 5]
    p50, p99 = np.quantile([wait for _, wait in middle], [0.5, 0.99])
    return {
        "images_per_s": round((len(middle) - 1) / (middle[-1][0] - middle[0][0]), 1),
        "mean_batch": [round(statistics.fmean(sizes), 1) if sizes else 0.0 for sizes in batches],
        "p50_ms": round(float(p50) * 1000, 1),
        "p99_ms": round(float(p99) * 1000, 1),
        "refused": round(refused / (refused + len(answered)), 3),
    }


def compare(exits: np.ndarray, seconds: TimeOf, num_stages: int, options: dict[str, int]) -> list[dict[str, Any]]:
    """Every policy under every load, with the very same images and arrivals."""
    rng = np.random.default_rng(options["seed"])
    exit_of = rng.choice(exits, options["images"]).tolist()
    gaps = rng.exponential(1.0, options["images"])
    full = options["max_batch_size"]
    reach = [float((exits >= stage).mean()) for stage in range(num_stages)]
    capacity = full / sum(share * seconds(stage, full) for stage, share in enumerate(reach))
    rows = []
    for load_ in (None, *OPEN_LOADS):
        arrivals = [] if load_ is None else np.cumsum(gaps / (load_ * capacity)).tolist()
        for name, policy in POLICIES.items():
            scheduler = policy(num_stages, BatchLimits(num_stages, full), StageTimes(num_stages))
            row = simulate(scheduler, exit_of, arrivals, options["clients"], seconds, options["max_inflight"])
            rows.append({"load": "closed loop" if load_ is None else f"{load_} of capacity", "policy": name, **row})
    return rows


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    thresholds: Annotated[float | None, typer.Option(help="For all exits; the model's own when left out.")] = None,
    record_times: Annotated[bool, typer.Option("--record", help="Time the real stages first.")] = False,
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    launch_ms: Annotated[float, typer.Option(min=0, help="Added to every batch.")] = 0.0,
    clients: Annotated[int, typer.Option(min=1)] = 256,
    max_batch_size: Annotated[int, typer.Option(min=1, max=max(SIZES))] = max(SIZES),
    max_inflight: Annotated[int, typer.Option(min=1)] = 512,
    images: Annotated[int, typer.Option(min=100)] = 20_000,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Compare scheduling policies."""
    stored = load(model)
    if record_times:
        RECORDED.write_text(json.dumps(record(stored, repeats), indent=1) + "\n")
    recorded = json.loads(RECORDED.read_text())
    if recorded["model"] != model:
        raise typer.BadParameter(f"the recorded times are of {recorded['model']}, not {model}; record them again")
    if stored.calibration is None:
        raise typer.BadParameter(f"{model} has no calibration table")
    stages = stored.manifest.architecture.num_stages
    chosen = stored.manifest.thresholds if thresholds is None else parse_thresholds(thresholds, stages)
    exits = exit_stages(stored.calibration.confidence_EN, chosen)
    options = {
        "seed": seed,
        "images": images,
        "clients": clients,
        "max_batch_size": max_batch_size,
        "max_inflight": max_inflight,
    }
    rows = compare(exits, time_of(recorded, launch_ms / 1000), stages, options)
    table = Table("load", "policy", "images/s", "mean batch per stage", "p50 ms", "p99 ms", "refused", title=model)
    for row in rows:
        sizes = " / ".join(map(str, row["mean_batch"]))
        table.add_row(
            row["load"], row["policy"], str(row["images_per_s"]), sizes, *(str(row[key]) for key in _LAST_COLUMNS)
        )
    Console(width=120).print(table)
    if out is not None:
        out.write_text(json.dumps({"thresholds": chosen, **options, "launch_ms": launch_ms, "rows": rows}, indent=1))


_LAST_COLUMNS = ("p50_ms", "p99_ms", "refused")


if __name__ == "__main__":
    typer.run(main)
