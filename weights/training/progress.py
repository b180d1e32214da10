"""Progress of a run for people: phase, speed and remaining time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn

from weights.training.trainer import StepReport, Trainer

_SMOOTHING = 0.95
_LINE_S = 10.0
_SPEED_WINDOW_S = 60.0


class RunProgress:
    """A progress bar for the current phase or its preparation.

    Args:
        line_s: seconds between the lines printed instead of a bar when there is no terminal.
        clock: seconds, monotonic.
    """

    def __init__(
        self, bars: Progress, console: Console, line_s: float = _LINE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bars, self._console = bars, console
        self._line_s, self._clock = line_s, clock
        self._task: TaskID | None = None
        self._shown = ""
        self._smoothed: list[float] = []
        self._printed = clock()

    def prepared(self, what: str, done: int, total: int) -> None:
        """Report that some of the work named `what` is done."""
        self._update(what, done, total, "")
        if self._line_due():
            self._console.print(f"{what}: {done:,}/{total:,}{self._remaining()}")

    def stepped(self, trainer: Trainer, report: StepReport) -> None:
        """Report that a step is done."""
        phase = trainer.phases[report.phase]
        name = f"{report.phase + 1}/{len(trainer.phases)} {phase.name}"
        if name != self._shown:
            self._smoothed = []
        values = (report.loss, *report.exit_accuracy)
        before = self._smoothed or values
        self._smoothed = [_SMOOTHING * old + (1 - _SMOOTHING) * new for old, new in zip(before, values, strict=True)]
        exits = " ".join(f"{accuracy:.0%}" for accuracy in self._smoothed[1:])
        task = self._update(name, report.step, phase.total_steps, f"loss {self._smoothed[0]:.2f}  right {exits}")
        speed = f"{task.speed * report.images:.0f} images/s  " if task.speed else ""
        self._bars.update(task.id, numbers=f"{speed}{task.fields['numbers']}")
        if report.step == phase.total_steps or self._line_due():
            line = f"{name}: step {report.step:,}/{phase.total_steps:,}, {task.fields['numbers']}{self._remaining()}"
            self._console.print(line)

    def _update(self, name: str, done: int, total: int, numbers: str) -> Task:
        """Show the progress. The speed of a continued run counts from where it continued."""
        if name != self._shown:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._shown = self._bars.add_task(name, total=total, completed=done, numbers=numbers), name
        assert self._task is not None
        self._bars.update(self._task, completed=done, numbers=numbers)
        return self._bars.tasks[-1]

    def _line_due(self) -> bool:
        if self._console.is_terminal or self._clock() - self._printed < self._line_s:
            return False
        self._printed = self._clock()
        return True

    def _remaining(self) -> str:
        seconds = self._bars.tasks[-1].time_remaining
        if not seconds:
            return ""
        return f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"


@contextmanager
def run_progress(console: Console) -> Iterator[RunProgress]:
    """Show bars while the block runs; without a terminal, print a line at intervals."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, refresh_per_second=2, transient=True, speed_estimate_period=_SPEED_WINDOW_S
    ) as bars:
        yield RunProgress(bars, console)
