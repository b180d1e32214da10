"""Compares `dvt plan` with reality: one replica's engine as predicted, and as measured right afterwards.

    python benchmarks/planning.py [--p99-ms 100] [--rounds 3] [--seconds 6] [--out FIGURES.json]

Every round records the stage times, plans with them, and then loads the real engine in this process: saturated, and
with Poisson arrivals at the largest rate that the plan allows and at three quarters of it. HTTP and decoding
are neither planned for nor measured. The cost of the engine's bookkeeping is measured with a runner that answers at
once. Images are random and leave where the calibration images would; all stages compute. Latencies count from the
intended time of arrival.
"""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from service.capacity.instant import InstantRunner
from service.capacity.plan import Demand, make_plan
from service.capacity.recording import alone, under_load
from service.capacity.replica import SimulatedLoad, SimulatedReplica
from service.capacity.stage_seconds import stage_seconds
from service.capacity.walks import BatchSizes, Walk, open_loop, running_engine, saturated
from service.capacity.workload import ReplayedExits, Workload, replayed_workload
from service.engine.engine import Engine
from service.engine.interfaces import Runner
from service.engine.runner import TorchRunner
from service.replica.backend import build_runner
from service.settings import Settings, load_settings
from weights import load
from weights.calibration.thresholds import exit_stages
from weights.store import StoredModel

_SATURATING = 4096
_SIMULATED = 20_000


def bookkeeping_ms(workload: Workload, runner: Runner, settings: Settings) -> float:
    """Milliseconds per image of the engine without computation."""
    instant = InstantRunner(runner.stage_macs, runner.baseline_macs, num_classes=10)
    walk = saturated_walk(instant, workload, settings)
    return 1000 * walk.seconds / len(workload.images)


def saturated_walk(runner: Runner, workload: Workload, settings: Settings) -> Walk:
    """All images through an engine of its own that is always full."""
    batches, limit = BatchSizes(), settings.max_inflight
    with running_engine(runner, batches, max_inflight=limit, max_batch_size=settings.max_batch_size) as engine:
        return saturated(engine, batches, workload.images, workload.policy, limit)


def measured(
    engine: Engine, batches: BatchSizes, workload: Workload, rate: float, seconds: float, max_inflight: int
) -> dict[str, Any]:
    """Figures of the real engine with random arrivals; of the middle three fifths, as in the simulation."""
    batches.clear()
    arrivals_s = np.cumsum(np.random.default_rng(1).exponential(1 / rate, int(rate * seconds)))
    seen = open_loop(engine, workload.images, workload.policy, arrivals_s, max_inflight=max_inflight)
    middle = np.argsort(seen.ended_at)[len(arrivals_s) // 5 : 4 * len(arrivals_s) // 5]
    p50, p99 = np.quantile((seen.ended_at - seen.due_at)[middle], [0.5, 0.99])
    late = (seen.submitted_at - seen.due_at)[middle]
    return {
        "rate": rate,
        "p50_ms": float(p50) * 1000,
        "p99_ms": float(p99) * 1000,
        "mean_batch": [statistics.fmean(batches.sizes.get(stage, [0])) for stage in range(len(engine.stage_macs))],
        "sent_late_p99_ms": float(np.quantile(late, 0.99)) * 1000,
        "slowest_batch_ms": 1000 * max(max(each) for each in batches.seconds.values()),
    }


def predicted(load_: SimulatedLoad) -> dict[str, Any]:
    """The same figures of a simulated load."""
    return {"rate": load_.rate, "p50_ms": load_.p50_ms, "p99_ms": load_.p99_ms, "mean_batch": list(load_.mean_batch)}


def one_round(
    stored: StoredModel, settings: Settings, runner: TorchRunner, p99_ms: float, seconds: float, console: Console
) -> dict[str, Any]:
    """Record, plan, and measure."""
    manifest = stored.manifest
    workload = replayed_workload(stored, _SATURATING, manifest.thresholds)
    console.print("recording")
    rounds = [{size: stage_seconds(runner, workload.images, size) for size in runner.sizes} for _ in range(15)]
    times = alone(stored, runner, rounds, "cpu")
    times = times.model_copy(
        update={
            "ratios": under_load(stored, runner, settings, times),
            "engine_ms": bookkeeping_ms(workload, runner, settings),
        }
    )
    assert stored.calibration is not None
    replica = SimulatedReplica(
        times=times,
        exits=exit_stages(stored.calibration.confidence_EN, manifest.thresholds),
        max_batch_size=settings.max_batch_size,
        max_inflight=settings.max_inflight,
        front_ends=0,
        overhead_s=0.0,
    )
    limit = make_plan(replica, Demand(rate=1.0, p99_ms=p99_ms), images=_SIMULATED, seed=0).limit
    loads = [limit, replica.under(0.75 * limit.rate, images=_SIMULATED, seed=0)]
    console.print(f"planned: {limit.rate:.0f} images/s at p99 {limit.p99_ms:.1f} ms; measuring")
    replayed, observer = ReplayedExits(runner), BatchSizes()
    capacity = len(workload.images) / saturated_walk(replayed, workload, settings).seconds
    with running_engine(
        replayed, observer, max_inflight=settings.max_inflight, max_batch_size=settings.max_batch_size
    ) as engine:
        figures = [measured(engine, observer, workload, each.rate, seconds, settings.max_inflight) for each in loads]
    return {
        "engine_ms": times.engine_ms,
        "mean_ratio": statistics.fmean(times.ratios),
        "capacity": {"predicted": replica.capacity, "measured": capacity},
        "loads": [{"predicted": predicted(each), "measured": real} for each, real in zip(loads, figures, strict=True)],
    }


def print_rounds(rounds: Sequence[dict[str, Any]], console: Console) -> None:
    """A row for each figure of each round."""
    table = Table("round", "figure", title="predicted and measured")
    for heading in ("images/s", "predicted", "measured", "measured / predicted"):
        table.add_column(heading, justify="right")
    for number, each in enumerate(rounds, start=1):
        rows = [("capacity, images/s", None, each["capacity"]["predicted"], each["capacity"]["measured"])]
        for load_ in each["loads"]:
            for key in ("p50_ms", "p99_ms"):
                rows.append((key, load_["predicted"]["rate"], load_["predicted"][key], load_["measured"][key]))
        for title, rate, plan_, real in rows:
            cells = ("" if rate is None else f"{rate:,.0f}", f"{plan_:,.1f}", f"{real:,.1f}", f"{real / plan_:.2f}")
            table.add_row(str(number), title, *cells)
    console.print(table)


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    p99_ms: Annotated[float, typer.Option(min=1)] = 100.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of each open loop.")] = 6.0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Compare a plan with the measurement."""
    stored, settings, console = load(model), load_settings(model=model, device="cpu"), Console()
    runner = build_runner(stored, settings)
    runner.warm_up()
    done = [one_round(stored, settings, runner, p99_ms, seconds, console) for _ in range(rounds)]
    console.print(f"{os.cpu_count()} cores, {runner.dtype}")
    print_rounds(done, console)
    if out is not None:
        out.write_text(json.dumps({"p99_ms": p99_ms, "rounds": done}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
