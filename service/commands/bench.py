"""The `dvt bench` commands. What is slow to import is imported by the command that needs it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from service.commands.terminal import errors_as_messages

bench = typer.Typer(help="Measure the engine, with what to compare it to.", no_args_is_help=True)


@bench.command()
def engine(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name, or a model folder.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Parquet file or folder of images; random images when left out.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many, at most.")] = 512,
    seconds: Annotated[float, typer.Option(min=1.0, help="Time to measure for, at least one round.")] = 60.0,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes each stage is timed at alone.")] = "1,8,32",
    thresholds: Annotated[
        str | None, typer.Option(help="One number, or one per exit but the last; the model's own when left out.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    dtype: Annotated[str | None, typer.Option(help="As DVT_DTYPE.")] = None,
    max_inflight: Annotated[int | None, typer.Option(help="Images admitted at one time.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Images a stage runs at once.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
) -> None:
    """The engine beside request by request, batches held together, and a static ViT, in one run."""
    with errors_as_messages():
        from rich.console import Console

        from service.capacity.compare import compare
        from service.capacity.comparison_report import print_report, report
        from service.capacity.point import chosen_thresholds
        from service.capacity.workload import held_out_workload, replayed_workload
        from service.settings import load_settings
        from weights.store import load
        from weights.training.progress import run_progress

        settings = load_settings(
            model=model, device=device, dtype=dtype, max_inflight=max_inflight, max_batch_size=max_batch_size
        )
        sizes = _positive_numbers(batch_sizes, "--batch-sizes")
        stored = load(settings.model)
        point = chosen_thresholds(stored, thresholds)
        workload = held_out_workload(stored, data, images, point) if data else replayed_workload(stored, images, point)
        console = Console()
        with run_progress(console) as progress:
            comparison = compare(
                stored,
                workload,
                settings,
                data=data or (),
                batch_sizes=sizes,
                seconds=seconds,
                on_step=lambda what, passed_s: progress.prepared(what, round(passed_s), round(seconds)),
            )
        figures = report(comparison)
        print_report(figures, console)
        if out is not None:
            out.write_text(json.dumps(figures, indent=1) + "\n")


def _positive_numbers(text: str, option: str) -> list[int]:
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and int(item) > 0 for item in items):
        raise typer.BadParameter(f"{text!r} is not a list of positive numbers with commas", param_hint=option)
    return [int(item) for item in items]
