"""`dvt train` without the command line: data in, a folder that serves out, interruptible at any step."""

import platform
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.cascade import Cascade
from models.config import CascadeConfig
from models.host_memory import keep_freed_memory
from weights.calibration.calibrate import calibrate, held_out_logits, judge
from weights.card import model_card
from weights.data import LabelledImages, load_images, split
from weights.preprocessing import Preprocessing
from weights.store import Manifest, save
from weights.training import checkpoint
from weights.training.initial import start_from
from weights.training.recipe import Recipe
from weights.training.trainer import StepReport, Trainer

_SMOOTHING = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run and where it lives.

    Attributes:
        data: parquet files, or one folder with a folder per class.
        out: the model folder, rewritten after every epoch with the averaged weights so far.
        run_dir: holds the checkpoint; the same run started again goes on from there.
        init: a model folder of the same architecture to start from; its heads are new where the number of classes
            differs.
        stem_only: take its stem alone; the stages may differ then.
        holdout: part of the images kept from training, halved into calibration and test.
        limit: use only the first so many images.
        checkpoint_s: seconds between checkpoints.
    """

    name: str
    data: tuple[Path, ...]
    out: Path
    run_dir: Path
    architecture: CascadeConfig
    preprocessing: Preprocessing
    recipe: Recipe
    init: Path | None = None
    stem_only: bool = False
    holdout: float = 0.1
    limit: int | None = None
    device: str = "cpu"
    checkpoint_s: float = 120.0


def train(run: TrainingRun, console: Console | None = None) -> bool:
    """Train, or go on training, until the end or an interrupt.

    Returns:
        Whether the run is finished; if not, a checkpoint was written and the same call goes on.

    Raises:
        DataError: when the data cannot be used.
        CheckpointError: when the run folder holds another run.
        ModelFormatError: when the folder to start from cannot be used, or is the one to write.
    """
    console = console or Console()
    data = load_images(run.data, run.preprocessing, limit=run.limit)
    architecture = replace(run.architecture, num_classes=len(data.class_names))
    parts = split(data.labels, run.holdout, run.recipe.seed)
    calibration, test = data.subset(parts.calibration), data.subset(parts.test)
    torch.manual_seed(run.recipe.seed)
    device = torch.device(run.device)
    if device.type == "cpu":
        keep_freed_memory()
    cascade, origin = Cascade(architecture), {}
    if run.init is not None:
        origin = start_from(run.init, cascade, out=run.out, stem_only=run.stem_only)
        console.print(f"starting from the {origin.get('part', 'weights')} of {origin['name']}")
    trainer = Trainer(cascade, data.subset(parts.train), run.preprocessing, run.recipe, device)

    path = run.run_dir / "checkpoint.pt"
    fingerprint = _fingerprint(run, architecture, data) | ({"init": str(origin)} if origin else {})
    seconds_before = 0.0
    if path.exists():
        state = checkpoint.read(path, fingerprint, device)
        trainer.load_state_dict(state["trainer"])
        seconds_before = state["seconds"]
        console.print(f"going on from step {trainer.step} of {trainer.total_steps} ({path})")

    started = saved = time.monotonic()

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def write_checkpoint() -> None:
        checkpoint.write(path, {"trainer": trainer.state_dict(), "seconds": seconds()}, fingerprint)

    def export() -> None:
        sizes = {"train": len(parts.train), "calibration": len(calibration), "test": len(test)}
        model = trainer.averaged_cascade
        seen, unseen = (held_out_logits(model, part, run.preprocessing, autocast=True) for part in (calibration, test))
        fitted = calibrate(seen, calibration.labels, architecture)
        judged = judge(unseen, test.labels, architecture, fitted.temperatures, fitted.default.thresholds)
        epoch = trainer.step // trainer.steps_per_epoch
        manifest = Manifest(
            name=run.name,
            architecture=architecture,
            preprocessing=run.preprocessing,
            class_names=data.class_names,
            thresholds=fitted.default.thresholds,
            temperatures=fitted.temperatures,
            provenance={
                "data": ", ".join(path.name for path in run.data),
                "holdout": run.holdout,
                "split": sizes,
                "recipe": asdict(run.recipe),
                "epochs_done": epoch,
                "hours": round(seconds() / 3600, 3),
                "hardware": _hardware(device),
                "torch": torch.__version__,
                "date": datetime.now(UTC).date().isoformat(),
                "results": asdict(judged),
                **({"init": origin} if origin else {}),
            },
        )
        save(run.out, model, manifest, model_card(manifest), fitted.table)
        print_epoch(judged.exit_accuracy)

    def report_growth(stages: int) -> None:
        logits = held_out_logits(trainer.averaged_cascade, test, run.preprocessing, autocast=True, stages=stages)
        print_epoch((logits.argmax(axis=-1) == test.labels).mean(axis=1))

    def print_epoch(exit_accuracy: Iterable[float]) -> None:
        epoch = trainer.step // trainer.steps_per_epoch
        accuracies = " ".join(f"{value:.1%}" for value in exit_accuracy)
        console.print(f"epoch {epoch}/{run.recipe.epochs}: held-out top-1 by exit {accuracies}")

    with _interruptible() as interrupted, _progress(console, trainer) as show:
        for report in trainer.run():
            show(report)
            if trainer.step % trainer.steps_per_epoch == 0:
                grown = trainer.recipe.phase_at(report.epoch).stages
                export() if grown is None else report_growth(grown)
            if interrupted():
                break
            if time.monotonic() - saved > run.checkpoint_s:
                write_checkpoint()
                saved = time.monotonic()
    write_checkpoint()
    finished = trainer.step == trainer.total_steps
    if finished and not (run.out / "config.json").exists():
        export()
    where = f"{run.out}" if finished else f"stopped at step {trainer.step}; the same command goes on from {path}"
    console.print(f"{'finished: ' if finished else ''}{where}")
    return finished


def _fingerprint(run: TrainingRun, architecture: CascadeConfig, data: LabelledImages) -> dict[str, str]:
    return {
        "architecture": str(architecture),
        "preprocessing": str(run.preprocessing),
        "recipe": str(run.recipe),
        "holdout": str(run.holdout),
        "images": str(len(data)),
        "class_names": str(data.class_names),
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of a CPU ({platform.machine()})"


@contextmanager
def _interruptible() -> Iterator[Any]:
    """Turn SIGINT and SIGTERM into a flag, so that a step is never cut in half."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _progress(console: Console, trainer: Trainer) -> Iterator[Any]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s  loss {task.fields[loss]:.2f}  exits {task.fields[exits]}"),
        TimeRemainingColumn(),
    )
    smoothed: list[float] = []
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        bar = progress.add_task(
            "", total=trainer.total_steps, completed=trainer.step, epoch="-", rate=0.0, loss=0.0, exits=""
        )

        def show(report: StepReport) -> None:
            values = (report.loss, *report.exit_accuracy)
            # More exits than before: all stages are in training now, or some more.
            before = smoothed if len(smoothed) == len(values) else values
            smoothed[:] = [_SMOOTHING * old + (1 - _SMOOTHING) * new for old, new in zip(before, values, strict=True)]
            speed = progress.tasks[0].speed or 0.0
            progress.update(
                bar,
                advance=1,
                epoch=f"{report.epoch + 1}/{trainer.recipe.epochs}",
                rate=speed * trainer.recipe.batch_size,
                loss=smoothed[0],
                exits=" ".join(f"{accuracy:.0%}" for accuracy in smoothed[1:]),
            )

        yield show
