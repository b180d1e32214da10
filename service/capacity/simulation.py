"""Runs the real scheduler on a simulated clock. Plain Python: no torch, no thread."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from service.engine.policy import Policy
from service.engine.scheduler import Scheduler, Step
from service.engine.task import Task

Seconds = Callable[[int, int], float]
"""(stage, batch size) -> seconds of one batch; called once per batch, so times may vary from batch to batch."""

_NO_PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)


Leaves = Callable[[Task, int], bool]
"""(task, stage) -> whether the image leaves after this stage; called once for every stage it runs."""


def known_exits(exit_of: Sequence[int]) -> Leaves:
    """Every image leaves at its own stage; a task's id is the image's number."""
    return lambda task, stage: stage >= exit_of[task.task_id]


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """An answered image.

    Attributes:
        image: its number, in order of arrival.
        arrived_at: seconds.
        ended_at: seconds.
    """

    image: int
    arrived_at: float
    ended_at: float


@dataclass(slots=True)
class SimulationResult:
    """The outcome of all images.

    Attributes:
        answered: in the order of the answers.
        refused: number of images that found no room.
        batches: batch sizes by stage.
        busy_s: seconds in which a batch ran.
        ended_at: when the last batch ended, seconds from the start.
    """

    batches: list[list[int]]
    answered: list[AnsweredImage] = field(default_factory=list)
    refused: int = 0
    busy_s: float = 0.0
    ended_at: float = 0.0


class SchedulerSimulation:
    """Images that arrive, wait and run as the scheduler decides. Usable once.

    Args:
        room: images in flight beyond which an image is refused.
        on_turn: called before a batch is chosen, with the time in seconds.
        on_idle: called when no image waits.

    Attributes:
        inflight: images that have arrived and are not answered.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        leaves: Leaves,
        seconds: Seconds,
        room: int,
        *,
        on_turn: Callable[[float], None] = lambda _: None,
        on_idle: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.inflight = 0
        self._scheduler, self._leaves, self._seconds, self._room = scheduler, leaves, seconds, room
        self._on_turn, self._on_idle = on_turn, on_idle
        self._policy = Policy(thresholds=(), config_version=1, max_stage=0)
        self._outcome = SimulationResult([[] for _ in scheduler.queue_depths()])
        self._numbers = iter(range(0))
        self._due = deque[float]()
        self._closed = False

    def open_loop(self, arrivals: Sequence[float]) -> SimulationResult:
        """Simulate images that arrive at these seconds, ascending."""
        self._numbers, self._due = iter(range(len(arrivals))), deque(arrivals)
        return self._run()

    def closed_loop(self, clients: int, images: int) -> SimulationResult:
        """Simulate clients that send the next image as soon as the last one is answered."""
        self._numbers, self._due, self._closed = iter(range(images)), deque([0.0] * clients), True
        return self._run()

    def _run(self) -> SimulationResult:
        now = 0.0
        while True:
            self._take_in(now)
            self._on_turn(now)
            step = self._scheduler.next_step(now)
            if step.batch:
                seconds = self._seconds(step.stage, len(step.batch))
                now += seconds
                # For an image that arrives while the batch runs, the batch's images are still in flight.
                self._take_in(now)
                self._finish(step, seconds, now)
            elif self._due:
                self._on_idle(now)
                now = self._due[0]
            else:
                return self._outcome

    def _take_in(self, now: float) -> None:
        while self._due and self._due[0] <= now:
            at, number = self._due.popleft(), next(self._numbers, None)
            if number is None:
                self._due.clear()
            elif self.inflight >= self._room:
                self._outcome.refused += 1
            else:
                self.inflight += 1
                task = Task(task_id=number, pixels=_NO_PIXELS, policy=self._policy, submitted_at=at)
                self._scheduler.add(task, at)

    def _finish(self, step: Step, seconds: float, now: float) -> None:
        outcome = self._outcome
        outcome.batches[step.stage].append(len(step.batch))
        outcome.busy_s += seconds
        outcome.ended_at = now
        for task in step.batch:
            if self._leaves(task, step.stage):
                self.inflight -= 1
                outcome.answered.append(AnsweredImage(task.task_id, task.submitted_at, now))
                if self._closed:
                    self._due.append(now)
            else:
                task.stage += 1
                self._scheduler.add(task, now)
