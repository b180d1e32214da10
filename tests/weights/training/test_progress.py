import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from weights.training.progress import RunProgress, run_progress
from weights.training.trainer import StepReport

PHASES = {"look of 64 px": 100, "Transformers": 50}
TRAINER: Any = SimpleNamespace(phases=[SimpleNamespace(name=name, total_steps=steps) for name, steps in PHASES.items()])


class _Shown:
    """A progress without a terminal, whose clock is set by hand."""

    def __init__(self) -> None:
        self.now, self._printed = 0.0, io.StringIO()
        console = Console(file=self._printed, width=200)
        bars = Progress(console=console, get_time=lambda: self.now, speed_estimate_period=60.0)
        self.progress = RunProgress(bars, console, line_s=10.0, clock=lambda: self.now)

    def step(self, number: int, seconds: float, *, phase: int = 0, right: float = 0.5) -> None:
        """A step that took so long."""
        self.now += seconds
        self.progress.stepped(TRAINER, StepReport(phase, number, 1.5, (right,), 16))

    @property
    def lines(self) -> list[str]:
        return self._printed.getvalue().splitlines()


def test_stepped_without_a_terminal_prints_a_line_every_ten_seconds_with_the_time_left() -> None:
    shown = _Shown()
    for number in range(1, 26):
        shown.step(number, seconds=1.0)
    assert shown.lines == [
        "1/2 look of 64 px: step 10/100, 16 images/s  loss 1.50  right 50%, 90 s left",
        "1/2 look of 64 px: step 20/100, 16 images/s  loss 1.50  right 50%, 80 s left",
    ]


def test_stepped_of_a_resumed_run_counts_its_speed_from_where_it_goes_on_and_prints_the_last_step() -> None:
    shown = _Shown()
    for number in (50, 51, 52):
        shown.step(number, seconds=10.0)
    assert shown.lines[-1] == "1/2 look of 64 px: step 52/100, 2 images/s  loss 1.50  right 50%, 8 min left"
    count = len(shown.lines)
    for number in (99, 100):
        shown.step(number, seconds=0.1)
    assert len(shown.lines) == count + 1
    assert shown.lines[-1].startswith("1/2 look of 64 px: step 100/100, ")
    assert "left" not in shown.lines[-1]


def test_stepped_next_phase_after_its_preparation_begins_its_own_averages() -> None:
    shown = _Shown()
    shown.step(100, seconds=1.0, right=0.0)
    for done in (1000, 2000, 3000, 4000):
        shown.now += 6.0
        shown.progress.prepared("Transformers: preparing views", done, 5000)
    assert shown.lines[-1] == "Transformers: preparing views: 4,000/5,000, 6 s left"
    shown.step(1, seconds=10.0, phase=1, right=1.0)
    assert shown.lines[-1] == "2/2 Transformers: step 1/50, loss 1.50  right 100%"


def test_run_progress_on_a_terminal_shows_bars_and_prints_no_line_but_the_last() -> None:
    printed = io.StringIO()
    with run_progress(Console(file=printed, force_terminal=True, width=200)) as progress:
        progress.prepared("preparing views", 1, 2)
        for number in (99, 100):
            progress.stepped(TRAINER, StepReport(0, number, 1.0, (0.5,), 8))
    shown = Text.from_ansi(printed.getvalue()).plain
    assert "look of 64 px ━" in shown
    assert shown.count("step 100/100") == 1
    assert "step 99/100" not in shown
