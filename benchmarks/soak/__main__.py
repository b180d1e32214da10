"""Soak test: every kind of client at once for ten minutes, then checks of metrics and memory.

    python -m benchmarks.soak [--seconds 600] [--env DVT_DTYPE=bfloat16 …] [--json soak.json] [--plot soak.png]

Starts `dvt serve` in a process of its own. Honest clients, lists of eight with a bad image among them, corrupt images,
deadlines that are hard to keep, clients that leave in the middle of their body or of their wait, and a configuration
that changes. Memory is the resident set of all the server's processes, from /proc. Fails when a check fails: an answer
lost or another's, a status nobody should get, images that are not accounted for, something left in a queue, or memory
that grows over the second half by more than `--max-growth-mb`.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.http.books import memory
from benchmarks.soak.checks import judge
from benchmarks.soak.clients import SoakRecord, soak
from service.capacity.child import served

SOAK_SETTINGS = {"DVT_MAX_INFLIGHT": "64"}
"""Equals the most images of one request: some are refused, and the last request can take every permit at once."""


def plot(samples: Sequence[Mapping[str, float]], path: Path) -> None:
    """Memory and images over time; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    minutes = [sample["seconds"] / 60 for sample in samples]
    axes.plot(minutes, [sample["rss_mb"] for sample in samples], label="resident memory")
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, None))
    images = axes.twinx()
    images.plot(minutes, [sample["images"] for sample in samples], color="tab:orange", label="images so far")
    images.set(ylabel="images", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=120)


def main(
    seconds: Annotated[float, typer.Option(min=5)] = 600.0,
    env: Annotated[
        list[str] | None, typer.Option(help="A setting of the server, like DVT_DTYPE=bfloat16; repeatable.")
    ] = None,
    max_growth_mb: Annotated[float, typer.Option(help="Over the second half.")] = 20.0,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Also draw memory over time.")] = None,
) -> None:
    """Soak a server, then check it."""
    settings = {**SOAK_SETTINGS, **dict(item.split("=", 1) for item in env or ())}
    seen, console = SoakRecord(), Console()
    with Progress(console=console, transient=True) as progress, served(environment=settings) as child:
        bar = progress.add_task("soak", total=seconds)
        metrics = asyncio.run(soak(child, seconds, seen, lambda: progress.advance(bar)))
    # Here the server has ended with code 0.
    checks = judge(seen, metrics, max_growth_mb)
    counts = Table("client", "requests", title=f"{seconds:.0f} s, {settings or 'default settings'}")
    for kind, number in seen.sent.items():
        counts.add_row(kind, f"{number:,}")
    console.print(counts)
    console.print(", ".join(f"{answer}: {number:,}" for answer, number in sorted(seen.statuses.items())))
    table = Table("check", "found", "")
    for check in checks:
        table.add_row(check.name, check.found, "[green]ok[/]" if check.ok else "[red]FAILED[/]")
    console.print(table)
    if out is not None:
        figures = {
            "seconds": seconds,
            "settings": settings,
            **{name: getattr(seen, name) for name in ("sent", "statuses", "lost", "crossed", "wrong", "full_status")},
            "checks": [asdict(check) for check in checks],
            "memory": memory(seen.samples),
            "samples": seen.samples,
        }
        out.write_text(json.dumps(figures, indent=1) + "\n")
    if picture is not None:
        plot(seen.samples, picture)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
