"""Checks that honest clients get their answers while a hundred hostile clients attack.

    python benchmarks/hostile_clients.py [--seconds 60] [--hostile 100] [--honest 4] [--json hostile.json]

Starts `dvt serve` in a process of its own. Hostile clients, in another, send garbage, contradictory lengths, floods of
headers or parts, bombs, or one byte a second; they pipeline, leave, and do not read; those that are not slow
come twice a second. Honest ones classify one image after the other, and `/livez` is requested up to 20 times a second,
every other time on a new connection. The same is measured without hostile clients first, for a fifth of the time. All
clients run on this machine and share its cores with the server. Fails when an honest answer is missing or wrong, when
the metrics do not account for an image, or when `/livez` takes longer than `--max-livez-ms` in the 99th percentile.
"""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.soak.hostile_clients import HostileRecord, attack
from service.capacity.child import served

SERVER_SETTINGS = {"DVT_CLIENT_TIMEOUT_S": "5"}


def figures(tally: HostileRecord, seconds: float) -> dict[str, Any]:
    """Milliseconds and counts."""

    def spread(values: list[float]) -> dict[str, float]:
        p50, p99 = np.percentile(np.array(values or [np.nan]) * 1000, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": max(values, default=np.nan) * 1000}

    return {
        "livez_ms": spread(tally.probe_s),
        "honest_ms": spread(tally.honest_s),
        "honest_per_s": len(tally.honest_s) / seconds,
        "honest_answers": len(tally.honest_s),
        "wrong": len(tally.wrong),
        "unaccounted_images": tally.unaccounted,
        "hostile": dict(tally.done),
    }


def main(
    seconds: Annotated[float, typer.Option(min=5)] = 60.0,
    hostile: int = 100,
    honest: int = 4,
    max_livez_ms: float = 100.0,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
) -> None:
    """Measure without hostile clients, then with them."""
    console = Console()
    with served(environment=SERVER_SETTINGS) as child:
        tallies = {
            "in peace": (asyncio.run(attack(child, seconds / 5, hostile=0, honest=honest)), seconds / 5),
            "under attack": (asyncio.run(attack(child, seconds, hostile=hostile, honest=honest)), seconds),
        }
    found = {name: figures(tally, duration) for name, (tally, duration) in tallies.items()}
    table = Table("", *found, title=f"{hostile} hostile clients, {honest} honest ones, {seconds:.0f} s")
    for name in ("livez_ms", "honest_ms"):
        for part in ("p50", "p99", "max"):
            table.add_row(f"{name} {part}", *(f"{each[name][part]:.1f}" for each in found.values()))
    for name in ("honest_per_s", "honest_answers", "wrong", "unaccounted_images"):
        table.add_row(name, *(f"{each[name]:,.0f}" for each in found.values()))
    console.print(table)
    console.print(", ".join(f"{kind}: {count:,}" for kind, count in found["under attack"]["hostile"].items()))
    for tally, _ in tallies.values():
        for text in tally.wrong[:5]:
            console.print(text)
    if out is not None:
        out.write_text(json.dumps({"seconds": seconds, "settings": SERVER_SETTINGS, **found}, indent=1) + "\n")
    attacked = found["under attack"]
    if any(each["wrong"] or each["unaccounted_images"] for each in found.values()) or (
        attacked["livez_ms"]["p99"] > max_livez_ms
    ):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
