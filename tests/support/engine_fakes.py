"""A runner without a model, an observer that remembers and a clock that is told: what engine tests are made of."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from service.engine.engine import Engine
from service.engine.policy import ExitReason, Policy
from service.engine.task import StagePrediction, Task

STAGE_MACS = (1, 2, 4, 8)


def pixels(exit_stage: int, tag: int = 0) -> np.ndarray:
    """An image that is confident from `exit_stage` on; `tag` comes back as its class index."""
    image = np.zeros((3, 2, 2), dtype=np.uint8)
    image[0, 0, 0], image[1, 0, 0], image[2, 0, 0] = exit_stage, tag % 256, tag // 256
    return image


def policy(**changes: object) -> Policy:
    """Thresholds of 0.5 at every exit, no limits."""
    return Policy(**{"thresholds": (0.5,) * 3, "config_version": 1, "max_stage": 3, **changes})


def make_task(task_id: int = 0, image: np.ndarray | None = None, stage: int = 0, **changes: object) -> Task:
    """A task of a black image, unless another is given, under `policy(**changes)`."""
    image = pixels(0) if image is None else image
    return Task(task_id=task_id, pixels=image, policy=policy(**changes), submitted_at=0.0, stage=stage)


def failing(at: int, bad: Callable[[Task], bool] = lambda task: True) -> Callable[[int, Sequence[Task]], None]:
    """A fault of one stage, for every batch with a bad image in it."""

    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == at and any(map(bad, tasks)):
            raise RuntimeError("boom")

    return fault


class FakeRunner:
    """Predicts from the pixels alone, checks the contract of `Runner`, and fails where `fault` says."""

    stage_macs = STAGE_MACS
    baseline_macs = 10
    dtype = "float32"

    def __init__(self, fault: Callable[[int, Sequence[Task]], None] | None = None) -> None:
        self.fault = fault
        self.batches: list[tuple[int, list[int]]] = []
        self.kept: dict[int, int] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.confidence: Callable[[Task, int], float] = lambda task, stage: (
            0.9 if stage >= task.pixels[0, 0, 0] else 0.2
        )
        self._pending: tuple[int, Sequence[Task]] | None = None

    def warm_up(self) -> None:
        pass

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        self.entered.set()
        assert self.gate.wait(10)
        if stage > 0:
            assert all(self.kept[task.task_id] == stage - 1 for task in tasks), "reuse state is missing"
        if self.fault is not None:
            self.fault(stage, tasks)
        self.batches.append((stage, [task.task_id for task in tasks]))
        self._pending = (stage, tasks)
        return [
            StagePrediction(
                stage=stage,
                indices=(int(task.pixels[1, 0, 0]) + 256 * int(task.pixels[2, 0, 0]),),
                probs=(self.confidence(task, stage),),
            )
            for task in tasks
        ]

    def keep(self, rows: Sequence[int]) -> None:
        if rows:
            assert self._pending is not None
            stage, tasks = self._pending
            self.kept.update({tasks[row].task_id: stage for row in rows})
        self._pending = None

    def release(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self.kept.pop(task.task_id, None)


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passing(clock: FakeClock, seconds: float) -> Callable[[int, Sequence[Task]], None]:
    """No fault, but a time that every batch of a stage takes."""

    def pass_time(stage: int, tasks: Sequence[Task]) -> None:
        clock.now += seconds

    return pass_time


class RecordingObserver:
    """Counts like the metrics do."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.batch_sizes: list[tuple[int, int]] = []
        self.batch_durations_s: list[float] = []
        self.queued_s: list[Sequence[float]] = []
        self.macs = 0

    @property
    def num_ended(self) -> int:
        """Images that exited, were rejected, cancelled or failed: once all have ended, as many as there were."""
        return sum(count for name, count in self.counts.items() if not name.startswith("device:"))

    def batch_done(self, stage: int, size: int, duration_s: float, queued_s: Sequence[float]) -> None:
        assert len(queued_s) == size
        assert duration_s >= 0
        self.batch_sizes.append((stage, size))
        self.batch_durations_s.append(duration_s)
        self.queued_s.append(queued_s)

    def image_exited(self, stage: int, reason: ExitReason, macs: int) -> None:
        self.counts[f"exited:{reason}"] += 1
        self.macs += macs

    def image_rejected(self, reason: str, count: int = 1) -> None:
        self.counts[f"rejected:{reason}"] += count

    def image_cancelled(self, where: str, count: int = 1) -> None:
        self.counts[f"cancelled:{where}"] += count

    def image_failed(self, stage: int) -> None:
        self.counts[f"failed:{stage}"] += 1

    def device_error(self, kind: str) -> None:
        self.counts[f"device:{kind}"] += 1


def hold(runner: FakeRunner, engine: Engine, exit_stage: int = 0) -> Task:
    """Occupy the worker with one image's first stage until `runner.gate` is set."""
    runner.gate.clear()
    runner.entered.clear()
    task = engine.submit(pixels(exit_stage), policy())
    assert runner.entered.wait(5)
    return task
