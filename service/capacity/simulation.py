"""The real scheduler on a simulated clock. Plain Python: no torch, no thread."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from service.engine.policy import Policy
from service.engine.scheduler import Batch, Scheduler
from service.engine.task import Task

Seconds = Callable[[int, int], float]
"""(stage, batch size) -> what this one batch takes; asked once a batch, so that it may differ from batch to batch."""

_NO_PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)


class Exits(Protocol):
    """Decides who leaves, and is told of time as the worker tells it to `Shedding`. A task's id is its image."""

    def turn(self, now: float) -> None:
        """A batch is about to be chosen."""

    def idle(self, now: float) -> None:
        """Nothing waits."""

    def leaves(self, task: Task, stage: int) -> bool:
        """Whether the image leaves after this stage; asked once for every stage it runs."""


class KnownExits:
    """Every image leaves at a stage that is known beforehand."""

    def __init__(self, exit_of: Sequence[int]) -> None:
        self._exit_of = exit_of

    def turn(self, now: float) -> None:
        """Time changes nothing."""

    def idle(self, now: float) -> None:
        """Time changes nothing."""

    def leaves(self, task: Task, stage: int) -> bool:
        """At its own stage."""
        return stage >= self._exit_of[task.task_id]


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """An image that was answered.

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
    """What became of every image.

    Attributes:
        answered: in the order of their answers.
        refused: images that found no room.
        batches: sizes of the batches of each stage.
        busy_s: seconds in which a batch ran.
        ended_at: when the last batch ended, seconds from the start.
    """

    batches: list[list[int]]
    answered: list[AnsweredImage] = field(default_factory=list)
    refused: int = 0
    busy_s: float = 0.0
    ended_at: float = 0.0


class SchedulerSimulation:
    """Images that arrive, wait and run as the scheduler says; once only.

    Args:
        room: images in flight beyond which one is refused.

    Attributes:
        inflight: images that have arrived and are not answered.
    """

    def __init__(self, scheduler: Scheduler, exits: Exits, seconds: Seconds, room: int) -> None:
        self.inflight = 0
        self._scheduler, self._exits, self._seconds, self._room = scheduler, exits, seconds, room
        self._policy = Policy(thresholds=(), config_version=1, max_stage=0)
        self._outcome = SimulationResult([[] for _ in scheduler.queue_depths()])
        self._numbers = iter(range(0))
        self._due = deque[float]()
        self._closed = False

    def open_loop(self, arrivals: Sequence[float]) -> SimulationResult:
        """Images that come at these seconds, ascending, whatever becomes of them."""
        self._numbers, self._due = iter(range(len(arrivals))), deque(arrivals)
        return self._run()

    def closed_loop(self, clients: int, images: int) -> SimulationResult:
        """Clients that send their next image as soon as the last is answered."""
        self._numbers, self._due, self._closed = iter(range(images)), deque([0.0] * clients), True
        return self._run()

    def _run(self) -> SimulationResult:
        now = 0.0
        while True:
            self._take_in(now)
            self._exits.turn(now)
            batch = self._scheduler.next_step(now).batch
            if batch is not None:
                seconds = self._seconds(batch.stage, len(batch.tasks))
                now += seconds
                # Who comes while the batch runs finds its images still in flight.
                self._take_in(now)
                self._finish(batch, seconds, now)
            elif self._due:
                self._exits.idle(now)
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

    def _finish(self, batch: Batch, seconds: float, now: float) -> None:
        outcome = self._outcome
        outcome.batches[batch.stage].append(len(batch.tasks))
        outcome.busy_s += seconds
        outcome.ended_at = now
        for task in batch.tasks:
            if self._exits.leaves(task, batch.stage):
                self.inflight -= 1
                outcome.answered.append(AnsweredImage(task.task_id, task.submitted_at, now))
                if self._closed:
                    self._due.append(now)
            else:
                task.stage += 1
                self._scheduler.add(task, now)
