"""The `dvt bench` commands. What is slow to import is imported by the command that needs it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from service.terminal import errors_as_messages

bench = typer.Typer(help="Measure the engine or a server, with what to compare it to.", no_args_is_help=True)

_DISTINCT_IMAGES = 128

Out = Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")]


@bench.command()
def engine(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name, or a model folder.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Parquet file or folder of images; random images when left out.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 5,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes each stage is timed at alone.")] = "1,8,32,64",
    thresholds: Annotated[
        str | None, typer.Option(help="One number, or one per exit but the last; the model's own when left out.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    dtype: Annotated[str | None, typer.Option(help="As DVT_DTYPE.")] = None,
    max_inflight: Annotated[int | None, typer.Option(help="Images admitted at one time.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Images a stage runs at once.")] = None,
    out: Out = None,
) -> None:
    """The engine beside request by request, batches held together, and a static ViT, in one run."""
    with errors_as_messages():
        from rich.console import Console
        from rich.progress import Progress

        from service.bench.engine.compare import compare, steps
        from service.bench.engine.report import print_report, report
        from service.bench.engine.workload import chosen_thresholds, held_out_workload, replayed_workload
        from service.settings import load_settings
        from weights.store import load

        settings = load_settings(
            model=model, device=device, dtype=dtype, max_inflight=max_inflight, max_batch_size=max_batch_size
        )
        sizes = _positive_numbers(batch_sizes, "--batch-sizes")
        stored = load(settings.model)
        point = chosen_thresholds(stored, thresholds)
        workload = held_out_workload(stored, data, images, point) if data else replayed_workload(stored, images, point)
        console = Console()
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("warm-up", total=steps(repeats))
            comparison = compare(
                stored,
                workload,
                settings,
                data=data or (),
                batch_sizes=sizes,
                repeats=repeats,
                on_step=lambda what: progress.update(bar, advance=1, description=what),
            )
        figures = report(comparison)
        print_report(figures, console)
        _write(out, figures)


def _positive_numbers(text: str, option: str) -> list[int]:
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and int(item) > 0 for item in items):
        raise typer.BadParameter(f"{text!r} is not a list of positive numbers with commas", param_hint=option)
    return [int(item) for item in items]


def _write(out: Path | None, figures: dict[str, Any]) -> None:
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")


@bench.command()
def http(
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
    out: Out = None,
) -> None:
    """Servers under load, side by side; fails when an answer was lost, crossed or changed."""
    with errors_as_messages():
        from rich.console import Console
        from rich.progress import Progress

        from service.bench.engine.workload import held_out_workload
        from service.bench.http.measure import Plan, steps
        from service.bench.http.report import faults, print_report, report
        from service.bench.http.run import Servers, run
        from service.bench.sample_images import SIZES_PX, jpegs_of, sample_jpegs
        from service.settings import load_settings
        from weights.store import load

        if (url is None) == (not (serve or serve_env)):
            raise typer.BadParameter("give the URL of a server, or --serve or --serve-env to start some")
        if image not in SIZES_PX:
            raise typer.BadParameter(f"{image!r} is not one of {', '.join(SIZES_PX)}", param_hint="--image")
        if arrivals not in ("poisson", "even"):
            raise typer.BadParameter(f"{arrivals!r} is neither poisson nor even", param_hint="--arrivals")
        plan = Plan(
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
            unseen = held_out_workload(stored, data, _DISTINCT_IMAGES, stored.manifest.thresholds)
            jpegs = jpegs_of(unseen.images, image)
        else:
            jpegs = sample_jpegs(image, _DISTINCT_IMAGES)
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
        _write(out, figures)
        if faults(figures):
            raise typer.Exit(1)


def _variants(texts: list[str]) -> dict[str, dict[str, str]]:
    """Each server's added environment by its name, which is the text it was given as."""
    variants = {}
    for text in texts:
        pairs = [item.partition("=") for item in text.split(",") if item]
        if not all(name.startswith("DVT_") and equals for name, equals, _ in pairs):
            raise typer.BadParameter(f"{text!r} is not like DVT_DTYPE=bfloat16", param_hint="--serve-env")
        variants[text or "dvt serve"] = {name: value for name, _, value in pairs}
    return variants
