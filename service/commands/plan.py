"""The `dvt plan` command. What is slow to import waits until it runs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.terminal import Device, MaxBatchSize, MaxInflight, ModelArgument, errors_as_messages

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.capacity.recorded import RecordedTimes
    from service.settings import Settings
    from weights.store import StoredModel

_POSITIVE = 1e-6


def plan(
    rate: Annotated[float, typer.Option(min=_POSITIVE, help="Images per second over all replicas.")],
    p99_ms: Annotated[float, typer.Option(min=_POSITIVE, help="99th percentile of the latency.")],
    model: ModelArgument = None,
    spare: Annotated[int, typer.Option(min=0, help="Replicas that may be lost while the p99 holds.")] = 1,
    price_per_hour: Annotated[float | None, typer.Option(min=0.0, help="Of one replica, in any currency.")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="One number, or one per exit but the last; the model's own when left out.")
    ] = None,
    target_mean_macs: Annotated[float | None, typer.Option(help="Thresholds for so many MACs an image.")] = None,
    target_accuracy: Annotated[float | None, typer.Option(help="Thresholds that reach it, from 0 to 1.")] = None,
    stage_times: Annotated[
        Path | None, typer.Option(help="Use what --save-stage-times wrote, here or elsewhere.")
    ] = None,
    save_stage_times: Annotated[Path | None, typer.Option(help="Write what is measured here.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each stage is measured at each batch size.")] = 15,
    overhead_ms: Annotated[
        float | None, typer.Option(min=0.0, help="HTTP and decoding, ms of a core an image; measured when left out.")
    ] = None,
    image: Annotated[str, typer.Option(help="To measure them with: small (64x64 px) or large (500x375 px).")] = "small",
    front_ends: Annotated[int | None, typer.Option(min=0, help="As DVT_HTTP_WORKERS.")] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="As DVT_DTYPE.")] = None,
    max_inflight: MaxInflight = None,
    max_batch_size: MaxBatchSize = None,
    images: Annotated[int, typer.Option(min=1000, help="Of every simulated load.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Of arrivals, images and what a batch takes.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
) -> None:
    """How many replicas carry a load within a latency, from stage times measured on this machine."""
    with errors_as_messages():
        from itertools import accumulate

        from rich.console import Console
        from rich.progress import Progress

        from models.macs import stage_macs
        from service.capacity.plan import MAX_STEPS, Demand, make_plan
        from service.capacity.plan_report import Question, print_report, report
        from service.capacity.point import calibration_of, thresholds_for
        from service.capacity.replica import SimulatedReplica
        from service.capacity.sample_images import SIZES_PX
        from service.settings import load_settings
        from weights.calibration.thresholds import exit_stages
        from weights.store import load

        if image not in SIZES_PX:
            raise typer.BadParameter(f"{image!r} is not one of {', '.join(SIZES_PX)}", param_hint="--image")
        settings = load_settings(
            model=model,
            device=device,
            dtype=dtype,
            max_inflight=max_inflight,
            max_batch_size=max_batch_size,
            http_workers=front_ends,
        )
        stored = load(settings.model)
        point = thresholds_for(stored, text=thresholds, mean_macs=target_mean_macs, accuracy=target_accuracy)
        exits = exit_stages(calibration_of(stored).confidence_EN, point)
        console = Console()
        with Progress(console=console, transient=True) as progress:
            if stage_times is None:
                # What is written should serve every later plan.
                times = _record(stored, settings, repeats, [image] if save_stage_times is None else SIZES_PX, progress)
            else:
                times = _read(stage_times, stored, settings)
            if save_stage_times is not None:
                times.write(save_stage_times)
            overhead_from = f"measured with {image} images" if overhead_ms is None else "as given"
            if overhead_ms is None:
                overhead_ms = times.overhead_ms(image)
            replica = SimulatedReplica(
                times=times,
                exits=exits,
                max_batch_size=settings.max_batch_size,
                max_inflight=settings.max_inflight,
                front_ends=settings.http_workers,
                overhead_s=overhead_ms / 1000,
            )
            bar = progress.add_task("simulation", total=MAX_STEPS)
            planned = make_plan(
                replica,
                Demand(rate=rate, p99_ms=p99_ms, spare=spare),
                images=images,
                seed=seed,
                on_step=lambda what: progress.update(bar, advance=1, description=what),
            )
        question = Question(
            thresholds=point,
            walk_macs=tuple(accumulate(stage.total for stage in stage_macs(stored.manifest.architecture))),
            overhead_from=overhead_from,
            price_per_hour=price_per_hour,
            images=images,
            seed=seed,
        )
        figures = report(planned, replica, question)
        print_report(figures, console)
        if out is not None:
            out.write_text(json.dumps(figures, indent=1) + "\n")


def _record(
    stored: "StoredModel", settings: "Settings", repeats: int, image_sizes: Iterable[str], progress: "Progress"
) -> "RecordedTimes":
    from service.capacity.recording import record, steps

    names = list(image_sizes)
    bar = progress.add_task("start", total=steps(repeats, names))
    times = record(
        stored,
        settings,
        repeats=repeats,
        image_sizes=names,
        on_step=lambda what: progress.update(bar, advance=1, description=what),
    )
    progress.remove_task(bar)
    return times


def _read(path: Path, stored: "StoredModel", settings: "Settings") -> "RecordedTimes":
    from service.capacity.recorded import RecordedTimes

    times = RecordedTimes.read(path)
    times.check(stored.manifest.name, stored.manifest.architecture.num_stages, settings.max_batch_size)
    return times
