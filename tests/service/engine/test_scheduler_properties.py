"""Any sequence of arrivals, batches, cancellations, deadlines and limits, against a model of plain lists."""

import math

import numpy as np
from engine_fakes import policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler, Step
from service.engine.stage_times import StageTimes
from service.engine.task import Task

NUM_STAGES = 3
MAX_BATCH = 4
_PATIENCES = st.sampled_from([None, 1.0, 2.0, 3.0, 4.0, 9.0])
PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)


class KnownTimes(StageTimes):
    """Costs as the test sets them; doubts are counted and change nothing."""

    def __init__(self) -> None:
        super().__init__(NUM_STAGES)
        self.costs = [(0.0, 1.0)] * NUM_STAGES
        self.doubts = [0] * NUM_STAGES

    def estimate(self, stage: int, size: int) -> float:
        fixed, per_row = self.costs[stage]
        return fixed + per_row * size

    def doubt(self, stage: int) -> None:
        self.doubts[stage] += 1


def _deadline(task: Task) -> float:
    return math.inf if task.deadline is None else task.deadline


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.times = KnownTimes()
        self.limits = BatchLimits(NUM_STAGES, MAX_BATCH)
        self.scheduler = Scheduler(NUM_STAGES, self.limits, self.times)
        self.now = 0.0
        self.waiting: list[list[Task]] = [[] for _ in range(NUM_STAGES)]
        self.passed_over = [0] * NUM_STAGES
        self.created = self.ended = 0

    @rule(stage=st.integers(0, 2), patiences=st.lists(_PATIENCES, min_size=1, max_size=8))
    def arrive(self, stage: int, patiences: list[float | None]) -> None:
        for patience in patiences:
            deadline = None if patience is None else self.now + patience
            task = Task(
                task_id=self.created,
                pixels=PIXELS,
                policy=policy(),
                submitted_at=self.now,
                stage=stage,
                deadline=deadline,
            )
            self.created += 1
            self.scheduler.add(task, self.now)
            self.waiting[stage].append(task)

    @rule(step=st.sampled_from([0.1, 1.0, 3.0]))
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(stage=st.integers(0, 2), fixed=st.sampled_from([0.0, 0.5, 2.0]), per_row=st.sampled_from([0.0, 0.5, 1.0]))
    def learn(self, stage: int, fixed: float, per_row: float) -> None:
        self.times.costs[stage] = (fixed, per_row)

    @rule(stage=st.integers(0, 2), size=st.integers(1, MAX_BATCH))
    def run_out_of_memory(self, stage: int, size: int) -> None:
        self.limits.out_of_memory(stage, size)

    @precondition(lambda self: any(self.waiting))
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: object) -> None:
        task = pick.choice([task for queue in self.waiting for task in queue])  # type: ignore[attr-defined]
        task.cancelled = True
        self.scheduler.expect_cancelled()

    @rule()
    def step(self) -> None:
        step = self.scheduler.next_step(self.now)
        taken = [] if step.batch is None else list(step.batch.tasks)
        gone = {task.task_id for task in [*taken, *step.dropped]}
        left = [[task for task in queue if task.task_id not in gone] for queue in self.waiting]
        assert len(gone) == len(taken) + len(step.dropped), "someone left twice"
        self._check_starvation(step)
        end = self.now
        if step.batch is not None:
            end += self.times.estimate(step.batch.stage, len(taken))
            self._check_batch(step.batch.stage, taken, left[step.batch.stage], end)
        else:
            assert not any(left), "work waits and nothing runs"
        self._check_dropped(step, end)
        for stage, queue in enumerate(left):
            for task in queue:
                assert not task.cancelled
                assert _deadline(task) > end
                assert _deadline(task) >= end + self.times.estimate(stage, 1), "kept though it cannot finish"
        self.waiting = left
        self.ended += len(gone)

    def _check_batch(self, stage: int, taken: list[Task], left: list[Task], end: float) -> None:
        ids = [task.task_id for task in taken]
        assert ids == sorted(ids)
        assert 1 <= len(ids) <= self.limits[stage]
        assert all(task.stage == stage and not task.cancelled for task in taken)
        assert all(_deadline(task) >= end and _deadline(task) > self.now for task in taken), "cannot finish in time"
        assert all(task.task_id > ids[-1] for task in left), "overtaken"
        here = [task for task in self.waiting[stage] if not task.cancelled and _deadline(task) > self.now]
        for more in range(len(ids) + 1, min(self.limits[stage], len(here)) + 1):
            in_time = [task for task in here if _deadline(task) >= self.now + self.times.estimate(stage, more)]
            assert len(in_time) < more, "a larger batch would have answered more in time"

    def _check_dropped(self, step: Step, end: float) -> None:
        for task in step.dropped:
            if not task.cancelled:
                alone = end + self.times.estimate(task.stage, 1)
                assert _deadline(task) <= end or _deadline(task) < alone, "dropped though it could finish"

    def _check_starvation(self, step: Step) -> None:
        chosen = None if step.batch is None else step.batch.stage
        dropped_at_once = {
            task.task_id
            for task in step.dropped
            if task.cancelled
            or _deadline(task) <= self.now
            or _deadline(task) < self.now + self.times.estimate(task.stage, 1)
        }
        for stage, queue in enumerate(self.waiting):
            waited = any(task.task_id not in dropped_at_once for task in queue)
            self.passed_over[stage] = self.passed_over[stage] + 1 if waited and stage != chosen else 0
            assert self.passed_over[stage] <= 3 * NUM_STAGES - 2, "starved"

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.scheduler.queue_depths() == tuple(map(len, self.waiting))
        assert self.created == self.ended + len(self.scheduler)


TestSchedulerProperties = SchedulerMachine.TestCase
TestSchedulerProperties.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
