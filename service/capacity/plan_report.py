"""The report of a plan as JSON and as tables."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from service.capacity.plan import CapacityPlan
from service.capacity.replica import SimulatedLoad, SimulatedReplica

_HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The inputs that the report repeats.

    Attributes:
        walk_macs: MACs of a walk that ends at each stage.
        overhead_from: origin of a front end's milliseconds per image, in words.
        price_per_hour: price of one replica.
    """

    thresholds: tuple[float, ...]
    walk_macs: tuple[int, ...]
    overhead_from: str
    price_per_hour: float | None
    images: int
    seed: int


def report(plan: CapacityPlan, replica: SimulatedReplica, question: Question) -> dict[str, Any]:
    """The plan as JSON data; rates are those of one replica."""
    mean_macs = sum(share * macs for share, macs in zip(replica.exit_shares, question.walk_macs, strict=True))
    return {
        "model": replica.times.model,
        "machine": replica.times.machine,
        "device": replica.times.device,
        "dtype": replica.times.dtype,
        "thresholds": question.thresholds,
        "exit_shares": replica.exit_shares,
        "mean_macs": mean_macs,
        "demand": asdict(plan.demand),
        "max_batch_size": replica.max_batch_size,
        "max_inflight": replica.max_inflight,
        "simulated_images": question.images,
        "seed": question.seed,
        "overhead": {
            "front_end_ms": replica.overhead_s * 1000,
            "from": question.overhead_from,
            "engine_ms": replica.times.engine_ms,
            "front_end_cores": replica.front_end_cores,
        },
        "under_load": {"mean_ratio": fmean(replica.times.ratios), "largest_ratio": max(replica.times.ratios)},
        "alone_ms": {"p50": replica.alone_s(0.5) * 1000, "p99": replica.alone_s(0.99) * 1000},
        "capacity": {
            "engine": replica.engine_capacity,
            "front_ends": None if math.isinf(replica.front_end_capacity) else replica.front_end_capacity,
        },
        "replicas": {"needed": plan.needed, "spare": plan.demand.spare, "run": plan.replicas},
        "loads": {
            name: _load(load, replica, mean_macs, question.price_per_hour, replicas)
            for name, load, replicas in (
                ("limit", plan.limit, 1),
                ("lost", plan.lost, plan.needed),
                ("normal", plan.normal, plan.replicas),
            )
        },
    }


def _load(
    load: SimulatedLoad, replica: SimulatedReplica, mean_macs: float, price: float | None, replicas: int
) -> dict[str, Any]:
    # A CPU replica is counted per core; a GPU replica per GPU, including its machine's cores.
    units = replica.times.cores if replica.times.on_cpu else 1
    per_hour = load.rate * _HOUR_S / units
    return {
        **asdict(load),
        "replicas": replicas,
        "share_of_capacity": load.rate / replica.capacity,
        "unit": "core" if replica.times.on_cpu else "GPU",
        "images_per_unit_hour": per_hour,
        "macs_per_unit_hour": per_hour * mean_macs,
        "cost_per_million": None if price is None else price / (load.rate * _HOUR_S) * 1e6,
    }


def print_report(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `report` as tables."""
    demand, replicas = figures["demand"], figures["replicas"]
    console.print(
        f"[bold]{replicas['run']} replicas[/] for {demand['rate']:,g} images/s at p99 <= {demand['p99_ms']:g} ms: "
        f"{replicas['needed']} carry it, {replicas['spare']} may be lost"
    )
    console.print(_loads_table(figures))
    capacity, overhead, alone = figures["capacity"], figures["overhead"], figures["alone_ms"]
    shares = " / ".join(f"{share:.1%}" for share in figures["exit_shares"])
    thresholds = ", ".join(f"{value:.3f}" for value in figures["thresholds"])
    front_ends = "no limit counted" if capacity["front_ends"] is None else f"{capacity['front_ends']:,.0f} images/s"
    facts = {
        "capacity": f"engine {capacity['engine']:,.0f} images/s in batches of {figures['max_batch_size']}; "
        f"front ends {front_ends}",
        "one image alone": f"p50 {alone['p50']:.1f} ms, p99 {alone['p99']:.1f} ms",
        "exits": f"{shares} at thresholds {thresholds}; {figures['mean_macs'] / 1e6:,.1f} M MACs an image",
        "batches under load": f"take {figures['under_load']['mean_ratio']:.2f} times as long as alone, at most "
        f"{figures['under_load']['largest_ratio']:.1f} times",
        "beside the stages": f"{_front_end(overhead)}; {overhead['engine_ms']:.3f} ms of the engine's process",
        "not counted": "network, balancer, clients, other work on the machine; one image a request",
        "measured on": f"{figures['machine']}; {figures['device']}, {figures['dtype']}",
        "simulated": f"{figures['simulated_images']:,} Poisson arrivals a load, seed {figures['seed']}",
    }
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)


def _front_end(overhead: dict[str, Any]) -> str:
    cores = overhead["front_end_cores"]
    where = f"{cores} core(s) of its own" if cores else "the engine's core"
    return f"HTTP and decoding {overhead['front_end_ms']:.3f} ms an image ({overhead['from']}) on {where}"


def _loads_table(figures: dict[str, Any]) -> Table:
    loads = figures["loads"]
    table = Table("one replica", title=figures["model"])
    for heading in ("at its limit", "spares lost", "all up"):
        table.add_column(heading, justify="right")
    unit = loads["limit"]["unit"]
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "replicas": lambda load: str(load["replicas"]),
        "images/s": lambda load: f"{load['rate']:,.1f}",
        "of capacity": lambda load: f"{load['share_of_capacity']:.0%}",
        "p50 ms": lambda load: f"{load['p50_ms']:.1f}",
        "p99 ms": lambda load: f"{load['p99_ms']:.1f}",
        "engine busy": lambda load: f"{load['utilisation']:.0%}",
        "front ends busy": lambda load: f"{load['front_end_utilisation']:.0%}",
        "mean batch by stage": lambda load: " / ".join(f"{size:.1f}" for size in load["mean_batch"]),
        f"images per {unit}-hour": lambda load: f"{load['images_per_unit_hour']:,.0f}",
        f"T MACs per {unit}-hour": lambda load: f"{load['macs_per_unit_hour'] / 1e12:,.1f}",
    }
    if loads["limit"]["cost_per_million"] is not None:
        rows["cost per million images"] = lambda load: f"{load['cost_per_million']:,.2f}"
    for name, cell in rows.items():
        table.add_row(name, *(cell(loads[column]) for column in ("limit", "lost", "normal")))
    return table
