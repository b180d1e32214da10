"""Which stage should run next? Scheduling policies on a simulated clock, with stage times recorded on this machine.

    python benchmarks/scheduling.py [--record] [--thresholds 0.9] [--launch-ms 0] [--out FIGURES.json]

`--record` runs the real stages first, with the service's settings, and writes `stage_times.json` beside this file; the
file also serves `dvt plan --stage-times`. A batch takes its mean time alone. Each image exits where the
model's calibration table says that it does. Closed loop: `--clients` send their next image as soon as the last is
answered. Open loop: Poisson arrivals at a share of the capacity (images a second if every batch were full); beyond
`--max-inflight` images they are refused. `--launch-ms` adds a fixed cost to every batch, as a device has that is
bound by its launches: an assumption, not a measurement.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from service.capacity.recorded import RecordedTimes
from service.capacity.recording import record
from service.capacity.replica import waits_ms
from service.capacity.sample_images import SIZES_PX
from service.capacity.simulation import SchedulerSimulation, Seconds, SimulationResult, known_exits
from service.engine.batch_limits import BatchLimits
from service.engine.operating import parse_thresholds
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.settings import load_settings
from weights import load
from weights.calibration.thresholds import exit_stages

RECORDED = Path(__file__).with_name("stage_times.json")
OPEN_LOADS = (0.5, 0.8, 1.0, 2.0)


class FullestFirst(Scheduler):
    """The stage with the largest batch; the deepest of equals."""

    def _preferred(self, ready: Sequence[int]) -> int:
        return max(ready, key=lambda stage: (min(len(self._queues[stage]), self._limits[stage]), stage))


class DeepestFirst(Scheduler):
    """The deepest stage with waiting tasks."""

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


def mean_seconds(recorded: RecordedTimes, launch_s: float) -> Seconds:
    """Mean seconds of a stage at any batch size."""
    sizes, stages = range(recorded.sizes[-1] + 1), range(len(recorded.seconds))
    tables = [[recorded.alone_s(stage, max(size, 1)) for size in sizes] for stage in stages]
    return lambda stage, size: tables[stage][size] + launch_s


def figures(outcome: SimulationResult) -> dict[str, Any]:
    """Rates and waits of the middle three fifths of the images; batches and refusals of all."""
    answered, refused = outcome.answered, outcome.refused
    middle = answered[len(answered) // 5 : 4 * len(answered) // 5]
    p50_ms, p99_ms = waits_ms(outcome)
    return {
        "images_per_s": round((len(middle) - 1) / (middle[-1].ended_at - middle[0].ended_at), 1),
        "mean_batch": [round(statistics.fmean(sizes), 1) if sizes else 0.0 for sizes in outcome.batches],
        "p50_ms": round(p50_ms, 1),
        "p99_ms": round(p99_ms, 1),
        "refused": round(refused / (refused + len(answered)), 3),
    }


def compare(exits: np.ndarray, seconds: Seconds, num_stages: int, options: dict[str, int]) -> list[dict[str, Any]]:
    """Every policy under every load, with the same images and arrivals."""
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
            simulation = SchedulerSimulation(scheduler, known_exits(exit_of), seconds, options["max_inflight"])
            if load_ is None:
                outcome = simulation.closed_loop(options["clients"], options["images"])
            else:
                outcome = simulation.open_loop(arrivals)
            title = "closed loop" if load_ is None else f"{load_} of capacity"
            rows.append({"load": title, "policy": name, **figures(outcome)})
    return rows


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    thresholds: Annotated[float | None, typer.Option(help="For all exits; the model's own when left out.")] = None,
    record_times: Annotated[bool, typer.Option("--record", help="Time the real stages first.")] = False,
    repeats: Annotated[int, typer.Option(min=1)] = 15,
    launch_ms: Annotated[float, typer.Option(min=0, help="Added to every batch.")] = 0.0,
    clients: Annotated[int, typer.Option(min=1)] = 256,
    max_batch_size: Annotated[int, typer.Option(min=1)] = 64,
    max_inflight: Annotated[int, typer.Option(min=1)] = 512,
    images: Annotated[int, typer.Option(min=100)] = 20_000,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Compare scheduling policies."""
    stored = load(model)
    if record_times:
        settings = load_settings(model=model, max_batch_size=max_batch_size, max_inflight=max_inflight)
        record(stored, settings, repeats=repeats, image_sizes=list(SIZES_PX), on_step=print).write(RECORDED)
    recorded = RecordedTimes.read(RECORDED)
    recorded.check(model, stored.manifest.architecture.num_stages, max_batch_size)
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
    rows = compare(exits, mean_seconds(recorded, launch_ms / 1000), stages, options)
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
