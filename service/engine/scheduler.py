"""Chooses the next stage and its tasks. Plain Python: no torch, no thread; the time is passed in."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.batch_limits import BatchLimits
from service.engine.stage_times import StageTimes
from service.engine.task import Task


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: end the dropped tasks, which are cancelled or too late; then run the batch.

    Attributes:
        batch: tasks of one stage, the oldest first; none if none waits.
    """

    stage: int
    batch: Sequence[Task]
    dropped: Sequence[Task]


class Scheduler:
    """One first-in-first-out queue per stage; forms batches of one stage at a time.

    There is a batch whenever a task waits. The deepest stage with a full batch runs first, which keeps batches full
    under load; without full batches, the deepest stage runs first, which finishes images and frees memory. A stage
    that was passed over `2 * num_stages` times in a row while tasks waited is overdue. The longest overdue stage runs
    before all others. With a smaller bound, a flooded stage 0 would make the expensive deep stages run nearly empty
    batches. With a larger one, deep images would wait longer for little gain.

    Starvation bound: a stage with waiting tasks is passed over at most `3 * num_stages - 2` times in a row. When it
    becomes overdue, at most `num_stages - 2` others are overdue (not the one that just ran), and each of them runs
    first at most once, because after its run it needs `2 * num_stages` more batches to be overdue again.

    Deadlines: no task starts a stage that is expected to end after its deadline. If a full batch would take too long
    for some tasks, the batch is the one that answers most images in time. A task that could not finish even alone, now
    or after the batch, is dropped at once.

    Args:
        limits: the most tasks a stage may run at once.
        times: expected durations of the stages.
    """

    def __init__(self, num_stages: int, limits: BatchLimits, times: StageTimes) -> None:
        self._limits = limits
        self._times = times
        self._patience = 2 * num_stages
        self._passed_over = [0] * num_stages
        self._queues = [deque[Task]() for _ in range(num_stages)]
        # Lower bounds of the deadlines in the queues; not raised when tasks are taken out.
        self._earliest = [math.inf] * num_stages
        self._look_for_cancelled = False

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def queue_depths(self) -> tuple[int, ...]:
        """Number of waiting tasks by stage. May be read from any thread."""
        return tuple(map(len, self._queues))

    def add(self, task: Task, now: float) -> None:
        """Add a task to the queue of `task.stage`."""
        task.enqueued_at = now
        self._queues[task.stage].append(task)
        self._earliest[task.stage] = min(self._earliest[task.stage], task.deadline)

    def expect_cancelled(self) -> None:
        """Make the next step drop cancelled tasks."""
        self._look_for_cancelled = True

    def next_step(self, now: float) -> Step:
        """Choose the next batch and the tasks to drop before it."""
        dropped = self._sweep(now)
        ready = [stage for stage, queue in enumerate(self._queues) if queue]
        if not ready:
            return Step(0, (), dropped)
        overdue = max(ready, key=lambda stage: (self._passed_over[stage], stage))
        chosen = overdue if self._passed_over[overdue] >= self._patience else self._preferred(ready)
        self._passed_over = [
            count + 1 if stage in ready and stage != chosen else 0 for stage, count in enumerate(self._passed_over)
        ]
        tasks = self._take(chosen, now)
        dropped += self._sweep(now + self._times.estimate(chosen, len(tasks)))
        return Step(chosen, tasks, dropped)

    def drain(self) -> list[Task]:
        """Remove and return all waiting tasks."""
        tasks = [task for queue in self._queues for task in queue]
        self._queues = [deque[Task]() for _ in self._queues]
        return tasks

    def _preferred(self, ready: Sequence[int]) -> int:
        return max([stage for stage in ready if len(self._queues[stage]) >= self._limits[stage]] or ready)

    def _take(self, stage: int, now: float) -> list[Task]:
        queue = self._queues[stage]
        size = min(len(queue), self._limits[stage])
        end = now + self._times.estimate(stage, size)
        if self._earliest[stage] >= end:
            return [queue.popleft() for _ in range(size)]
        # The largest batch whose tasks all meet their deadlines; after the sweep at least one task does.
        deadlines = sorted((task.deadline for task in queue), reverse=True)
        while size > 1 and deadlines[size - 1] < end:
            size -= 1
            end = now + self._times.estimate(stage, size)
        taken, left = list[Task](), deque[Task]()
        for task in queue:
            (taken if len(taken) < size and task.deadline >= end else left).append(task)
        self._queues[stage] = left
        return taken

    def _sweep(self, free_at: float) -> list[Task]:
        """Drop cancelled tasks, and tasks that could not finish even if they ran alone at `free_at`.

        Examines a queue only if necessary, so that it is cheap enough to run before every batch.
        """
        dropped = list[Task]()
        for stage, queue in enumerate(self._queues):
            alone_s = self._times.estimate(stage, 1)
            if not self._look_for_cancelled and not _too_late(self._earliest[stage], free_at, alone_s):
                continue
            kept, self._earliest[stage], refused = deque[Task](), math.inf, False
            for task in queue:
                if task.cancelled or _too_late(task.deadline, free_at, alone_s):
                    dropped.append(task)
                    refused = refused or (not task.cancelled and task.deadline > free_at)
                else:
                    kept.append(task)
                    self._earliest[stage] = min(self._earliest[stage], task.deadline)
            # A new queue, because other threads read the depths meanwhile.
            self._queues[stage] = kept
            if refused:
                self._times.doubt(stage)
        self._look_for_cancelled = False
        return dropped


def _too_late(deadline: float, start: float, duration_s: float) -> bool:
    return deadline <= start or deadline < start + duration_s
