"""Which stage runs next, for which tasks. Plain Python: no torch, no thread, no clock but `now` passed in."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.engine.batch_limits import BatchLimits
from service.engine.stage_times import StageTimes
from service.engine.task import Task


class DropReason(StrEnum):
    """Why a waiting task leaves its queue without running."""

    CANCELLED = "cancelled"
    TOO_LATE = "too_late"


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


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: end the dropped tasks, then run the batch, if any."""

    batch: Batch | None
    dropped: Sequence[Dropped]


class Scheduler:
    """One first-in-first-out queue per stage; forms batches of one stage at a time.

    Work-conserving: whenever something waits there is a batch; nothing is held back in the hope of company.
    Where full batches wait they go first, the deepest of them, which keeps batches full under load; otherwise the
    deepest stage goes first, which finishes what was begun and frees its memory. A flooded stage cannot starve
    another: a stage that was passed over `2 * num_stages` times in a row while tasks waited there is overdue, and
    the longest overdue goes before everything else. With less patience a flooded stage 0 makes the deep stages,
    which cost most, run on nearly empty batches; with more, the deep images wait longer for little throughput.

    Starvation bound: a stage with waiting tasks is passed over at most `3 * num_stages - 2` times in a row.
    When it becomes overdue, at most `num_stages - 2` others are overdue too (not the one just run), and each
    of them goes first once at most: having run, it needs `2 * num_stages` more batches to be overdue again.

    Deadlines: no task starts a stage that is expected to end after its deadline. Where a full batch would take
    too long for some, the batch is the one that answers most images in time. Who could not finish even alone,
    now or after the batch, is dropped at once rather than when the deadline has passed.

    Args:
        limits: how many tasks a stage may run at once.
        times: what a stage is expected to take.
    """

    def __init__(self, num_stages: int, limits: BatchLimits, times: StageTimes) -> None:
        self._limits = limits
        self._times = times
        self._patience = 2 * num_stages
        self._queues = [deque[Task]() for _ in range(num_stages)]
        self._passed_over = [0] * num_stages
        # No deadline in a queue is earlier than this; it may be too early, since taking tasks out leaves it.
        self._earliest = [math.inf] * num_stages
        self._look_for_cancelled = False

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
            self._earliest[task.stage] = min(self._earliest[task.stage], task.deadline)

    def expect_cancelled(self) -> None:
        """Make the next step look for cancelled tasks: some waiting task may have been cancelled."""
        self._look_for_cancelled = True

    def next_step(self, now: float) -> Step:
        """The next stage to run with its oldest tasks, up to the limit, and who is dropped before."""
        dropped = self._sweep(now)
        ready = [stage for stage, queue in enumerate(self._queues) if queue]
        if not ready:
            return Step(None, dropped)
        chosen = self._choose(ready)
        self._passed_over = [
            count + 1 if stage in ready and stage != chosen else 0 for stage, count in enumerate(self._passed_over)
        ]
        tasks = self._take(chosen, now)
        dropped += self._sweep(now + self._times.estimate(chosen, len(tasks)))
        return Step(Batch(chosen, tasks), dropped)

    def drain(self) -> list[Task]:
        """Take out everything that waits, deepest stage first."""
        tasks = [task for queue in reversed(self._queues) for task in queue]
        self._queues = [deque[Task]() for _ in self._queues]
        self._earliest = [math.inf] * len(self._queues)
        return tasks

    def _choose(self, ready: Sequence[int]) -> int:
        overdue = [stage for stage in ready if self._passed_over[stage] >= self._patience]
        if overdue:
            return max(overdue, key=lambda stage: (self._passed_over[stage], stage))
        return self._preferred(ready)

    def _preferred(self, ready: Sequence[int]) -> int:
        return max([stage for stage in ready if len(self._queues[stage]) >= self._limits[stage]] or ready)

    def _take(self, stage: int, now: float) -> list[Task]:
        queue = self._queues[stage]
        size = min(len(queue), self._limits[stage])
        end = now + self._times.estimate(stage, size)
        if self._earliest[stage] >= end:
            return [queue.popleft() for _ in range(size)]
        # As many as can all wait for a batch of that many; at least one can, after the sweep.
        deadlines = sorted((_deadline(task) for task in queue), reverse=True)
        while size > 1 and deadlines[size - 1] < end:
            size -= 1
            end = now + self._times.estimate(stage, size)
        taken, left = list[Task](), deque[Task]()
        for task in queue:
            (taken if len(taken) < size and _deadline(task) >= end else left).append(task)
        self._queues[stage] = left
        return taken

    def _sweep(self, free_at: float) -> list[Dropped]:
        """Drop the cancelled, and who cannot finish a stage even if it ran alone at `free_at`.

        Looks at the tasks only where it must, so that it is cheap enough to precede every batch.
        """
        dropped = list[Dropped]()
        for stage, queue in enumerate(self._queues):
            alone_s = self._times.estimate(stage, 1)
            if not self._look_for_cancelled and not _too_late(self._earliest[stage], free_at, alone_s):
                continue
            kept, self._earliest[stage], refused = deque[Task](), math.inf, False
            for task in queue:
                deadline = _deadline(task)
                if task.cancelled:
                    dropped.append(Dropped(task, DropReason.CANCELLED))
                elif _too_late(deadline, free_at, alone_s):
                    dropped.append(Dropped(task, DropReason.TOO_LATE))
                    refused = refused or deadline > free_at
                else:
                    kept.append(task)
                    self._earliest[stage] = min(self._earliest[stage], deadline)
            # Replaced whole rather than emptied and refilled: other threads read the depths.
            self._queues[stage] = kept
            if refused:
                self._times.doubt(stage)
        self._look_for_cancelled = False
        return dropped


def _deadline(task: Task) -> float:
    return math.inf if task.deadline is None else task.deadline


def _too_late(deadline: float, start: float, duration_s: float) -> bool:
    return deadline <= start or deadline < start + duration_s
