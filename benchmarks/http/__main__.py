"""Servers under load, side by side.

python -m benchmarks.http URL
python -m benchmarks.http --serve [--data DATA] [--rate 2x] [--json http.json]
python -m benchmarks.http --serve-env DVT_HTTP_WORKERS=1 --serve-env DVT_HTTP_WORKERS=2
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.http.measure import MeasurementPlan, steps
from benchmarks.http.photographs import jpegs_of
from benchmarks.http.report import faults, print_report, report
from benchmarks.http.run import Servers, run
from service.capacity.sample_images import SIZES_PX, sample_jpegs
from service.capacity.workload import held_out_workload
from service.commands.terminal import errors_as_messages
from service.settings import load_settings
from weights.store import load

_DEFAULT_JPEGS = 128


def main(
    url: Annotated[str | None, typer.Argument(help="A running server; --serve starts one instead.")] = None,
    serve: Annotated[bool, typer.Option(help="Start `dvt serve`, measure its references too, and stop it.")] = False,
    serve_env: Annotated[
        list[str] | None,
        typer.Option(help="Settings of a server to start, like DVT_DTYPE=bfloat16,DVT_MAX_BATCH_SIZE=32; repeatable."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Of the closed loops.")] = 64,
    images_per_request: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="Repeatable; 1 and 8 when left out.")
    ] = None,
    image: Annotated[str, typer.Option(help="small (64x64 px) or large (500x375 px).")] = "small",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Parquet files or an image folder: send held-out images, instead of made-up ones."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each load.")] = 3.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 5,
    rate: Annotated[
        str | None, typer.Option(help="An open loop too: requests/s, or 2x for twice the closed loop's.")
    ] = None,
    open_seconds: Annotated[float, typer.Option(min=0.1, help="Of the open loop.")] = 10.0,
    arrivals: Annotated[str, typer.Option(help="Of the open loop: poisson or even.")] = "poisson",
    client_processes: Annotated[int, typer.Option(min=1, help="Processes that send.")] = 1,
    references: Annotated[bool, typer.Option(help="With --serve: measure the same work without HTTP.")] = True,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
) -> None:
    """Servers under load, side by side; fails when an answer was lost, crossed or changed."""
    with errors_as_messages():
        if (url is None) == (not (serve or serve_env)):
            raise typer.BadParameter("give the URL of a server, or --serve or --serve-env to start some")
        if image not in SIZES_PX:
            raise typer.BadParameter(f"{image!r} is not one of {', '.join(SIZES_PX)}", param_hint="--image")
        if arrivals not in ("poisson", "even"):
            raise typer.BadParameter(f"{arrivals!r} is neither poisson nor even", param_hint="--arrivals")
        plan = MeasurementPlan(
            images_per_request=tuple(dict.fromkeys(images_per_request or (1, 8))),
            connections=connections,
            seconds=seconds,
            repeats=repeats,
            open_rate=rate,
            open_seconds=open_seconds,
            poisson=arrivals == "poisson",
        )
        servers = Servers(url=url, variants=_variants(serve_env or ([""] if serve else [])), references=references)
        if data:
            stored = load(load_settings().model)
            unseen = held_out_workload(stored, data, _DEFAULT_JPEGS, stored.manifest.thresholds)
            jpegs = jpegs_of(unseen.images, image)
        else:
            jpegs = sample_jpegs(image, _DEFAULT_JPEGS)
        console = Console()
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("start", total=steps(plan, len(servers.variants) or 1))
            targets, measured, referred = run(
                servers,
                plan,
                jpegs,
                client_processes=client_processes,
                on_step=lambda what: progress.update(bar, advance=1, description=what),
            )
        figures = report(plan, image, jpegs, targets, measured, referred)
        print_report(figures, console)
        if out is not None:
            out.write_text(json.dumps(figures, indent=1) + "\n")
        if faults(figures):
            raise typer.Exit(1)


def _variants(texts: list[str]) -> dict[str, dict[str, str]]:
    """Each server's added environment; its name is the given text."""
    variants = {}
    for text in texts:
        pairs = [item.partition("=") for item in text.split(",") if item]
        if not all(name.startswith("DVT_") and equals for name, equals, _ in pairs):
            raise typer.BadParameter(f"{text!r} is not like DVT_DTYPE=bfloat16", param_hint="--serve-env")
        variants[text or "dvt serve"] = {name: value for name, _, value in pairs}
    return variants


if __name__ == "__main__":
    typer.run(main)
