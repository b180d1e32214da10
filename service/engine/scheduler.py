"""Which stage runs next, for which tasks. Plain Python: no torch, no thread, no clock but `now` passed in."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.engine.task import Task


class DropReason(StrEnum):
    """Why a waiting task leaves its queue without running."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A task that left its queue without running."""

    task: Task
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that run one stage together; at least one, oldest first."""

    stage: int
    tasks: Sequence[Task]


class Scheduler:
    """One first-in-first-out queue per stage; forms batches of one stage at a time.

    Work-conserving: whenever something waits there is a batch; nothing is held back in the hope of company.
    The fullest stage goes first, so batches are full under load; among equals the deepest, which finishes
    what was begun and frees its memory. A flooded stage cannot starve another: a stage that was passed over
    `2 * num_stages` times in a row while tasks waited there is overdue, and the longest overdue goes before
    all fuller ones. With less patience a flooded stage 0 makes the deep stages, which cost most, run on
    nearly empty batches; with more, the deep images wait longer for little throughput.

    Starvation bound: a stage with waiting tasks is passed over at most `3 * num_stages - 2` times in a row.
    When it becomes overdue, at most `num_stages - 2` others are overdue too (not the one just run), and each
    of them goes first once at most: having run, it needs `2 * num_stages` more batches to be overdue again.
    """

    def __init__(self, num_stages: int, max_batch_size: int) -> None:
        if num_stages < 1 or max_batch_size < 1:
            raise ValueError(f"num_stages {num_stages} and max_batch_size {max_batch_size} must be positive")
        self._max_batch_size = max_batch_size
        self._patience = 2 * num_stages
        self._queues = [deque[Task]() for _ in range(num_stages)]
        self._passed_over = [0] * num_stages
        self._next_sweep_at = math.inf

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def queue_depths(self) -> tuple[int, ...]:
        """How many tasks wait for each stage. May be read from any thread."""
        return tuple(map(len, self._queues))

    def add(self, task: Task, now: float) -> None:
        """Let a task wait for `task.stage` from `now` on."""
        task.enqueued_at = now
        self._queues[task.stage].append(task)
        if task.deadline is not None:
            self._next_sweep_at = min(self._next_sweep_at, task.deadline)

    def expect_cancelled(self) -> None:
        """Make the next sweep look for cancelled tasks: some waiting task may have been cancelled."""
        self._next_sweep_at = -math.inf

    def sweep(self, now: float) -> list[Dropped]:
        """Drop what is cancelled or past its deadline, in every queue.

        Looks at the tasks only when a deadline has passed or `expect_cancelled` was called, so that it is
        cheap enough to precede every batch.
        """
        if now < self._next_sweep_at:
            return []
        self._next_sweep_at = math.inf
        dropped = []
        for stage, queue in enumerate(self._queues):
            kept = deque[Task]()
            for task in queue:
                if task.cancelled:
                    dropped.append(Dropped(task, DropReason.CANCELLED))
                elif task.deadline is not None and task.deadline <= now:
                    dropped.append(Dropped(task, DropReason.EXPIRED))
                else:
                    kept.append(task)
                    if task.deadline is not None:
                        self._next_sweep_at = min(self._next_sweep_at, task.deadline)
            # Replaced whole rather than emptied and refilled: other threads read the depths.
            self._queues[stage] = kept
        return dropped

    def next_batch(self) -> Batch | None:
        """The next stage to run with its oldest tasks, up to the limit; None when nothing waits."""
        ready = [stage for stage, queue in enumerate(self._queues) if queue]
        if not ready:
            return None
        sizes = [min(len(queue), self._max_batch_size) for queue in self._queues]
        overdue = [stage for stage in ready if self._passed_over[stage] >= self._patience]
        if overdue:
            chosen = max(overdue, key=lambda stage: (self._passed_over[stage], stage))
        else:
            chosen = max(ready, key=lambda stage: (sizes[stage], stage))
        self._passed_over = [
            count + 1 if stage in ready and stage != chosen else 0 for stage, count in enumerate(self._passed_over)
        ]
        queue = self._queues[chosen]
        return Batch(chosen, [queue.popleft() for _ in range(sizes[chosen])])

    def drain(self) -> list[Task]:
        """Take out everything that waits, deepest stage first."""
        tasks = [task for queue in reversed(self._queues) for task in queue]
        self._queues = [deque[Task]() for _ in self._queues]
        return tasks
