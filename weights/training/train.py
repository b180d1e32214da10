"""`dvt train` without the command line: from data to a model folder; can be interrupted at any step."""

import time

import torch
from rich.console import Console

from models.host_memory import keep_freed_memory
from weights.folder import check_writable as check_place
from weights.manifest import is_model
from weights.training import checkpoint
from weights.training.export import export
from weights.training.interruption import Interrupted, interruptible
from weights.training.phase import Phase, Report
from weights.training.progress import run_progress
from weights.training.run import PreparedRun, TrainingRun, planned
from weights.training.summary import announcement, outcome
from weights.training.trainer import Trainer

_SHOWN_IMAGES = 1_000


def train(run: TrainingRun, console: Console | None = None) -> bool:
    """Start or continue training until the end or an interrupt.

    Returns:
        Whether the run is finished; if not, a checkpoint was written and the same call continues.

    Raises:
        DataError: when the data cannot be used.
        RecipeError: when the recipe cannot be followed.
        CheckpointError: when the run folder holds another run.
        ModelFormatError: when the initial model cannot be used, or its folder is `out`.
        OSError: when the run folder cannot be written.
    """
    console = console or Console()
    device = torch.device(run.device)
    if device.type == "cpu":
        keep_freed_memory()
    check_place(run.run_dir)
    plan = planned(run)
    path, fingerprint = run.run_dir / "checkpoint.pt", plan.fingerprint()
    state = checkpoint.read(path, fingerprint, device) if path.exists() else None
    if state is not None and state["exported"] and is_model(run.out):
        console.print(f"this run is finished already: {run.out}\nto train anew, delete {run.run_dir}")
        return True
    console.print(announcement(plan))

    with interruptible() as interruption, run_progress(console) as progress:

        def report(what: str, done: int, total: int) -> None:
            progress.prepared(what, done, total)
            interruption.check()

        trainer = Trainer(plan.cascade, plan.data, plan.parts.train, run.preprocessing, plan.recipe, device, report)
        seconds_before = 0.0
        if state is not None:
            trainer.load_state_dict(state["trainer"])
            seconds_before = state["seconds"]
            console.print(f"going on {_place(trainer)} ({path})")
        started = saved = time.monotonic()

        def write(*, exported: bool = False) -> None:
            seconds = seconds_before + time.monotonic() - started
            values = {"trainer": trainer.state_dict(), "seconds": seconds, "exported": exported}
            checkpoint.write(path, values, fingerprint)

        try:
            for step in trainer.run():
                progress.stepped(trainer, step)
                if trainer.step == 0 or time.monotonic() - saved > run.checkpoint_s:
                    write()
                    saved = time.monotonic()
                interruption.check()
                if trainer.step == 0:
                    _show(console, plan, trainer.phases[step.phase], report)
            results = export(plan, trainer, seconds_before + time.monotonic() - started, report)
            write(exported=True)
        except Interrupted:
            write()
            console.print(f"stopped {_place(trainer)}; the same command goes on from {path}")
            return False
    console.print(outcome(plan, results))
    return True


def _place(trainer: Trainer) -> str:
    if trainer.finished:
        return "before the model is written"
    return f"in phase {trainer.phase + 1}, {trainer.current.name}, after {trainer.step:,} steps"


def _show(console: Console, plan: PreparedRun, phase: Phase, report: Report) -> None:
    """Print the accuracy of a phase's exits on some calibration images, if that is cheap."""
    rows = plan.parts.calibration
    accuracies = phase.judge(plan.data.subset(rows[:: -(-len(rows) // _SHOWN_IMAGES)]), report)
    if accuracies:
        console.print(f"{phase.name}: {' '.join(f'{value:.1%}' for value in accuracies)} of calibration images")
