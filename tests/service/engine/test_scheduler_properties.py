"""Any sequence of arrivals, batches, cancellations, deadlines and limits, against a model of plain lists."""

from engine_fakes import make_task
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes

NUM_STAGES = 3
MAX_BATCH = 4
_STAGES = st.integers(0, NUM_STAGES - 1)
_PATIENCES = st.sampled_from([None, 1.0, 2.0, 3.0, 4.0, 9.0])


class KnownTimes(StageTimes):
    """Costs as the test sets them; doubts change nothing."""

    def __init__(self):
        super().__init__(NUM_STAGES)
        self.costs = [(0.0, 1.0)] * NUM_STAGES

    def estimate(self, stage, size):
        fixed, per_row = self.costs[stage]
        return fixed + per_row * size

    def doubt(self, stage):
        pass


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.times = KnownTimes()
        self.limits = BatchLimits(NUM_STAGES, MAX_BATCH)
        self.scheduler = Scheduler(NUM_STAGES, self.limits, self.times)
        self.now = 0.0
        self.waiting = [[] for _ in range(NUM_STAGES)]
        self.passed_over = [0] * NUM_STAGES
        self.created = 0

    @rule(stage=_STAGES, patiences=st.lists(_PATIENCES, min_size=1, max_size=8))
    def arrive(self, stage, patiences):
        for patience in patiences:
            deadline = None if patience is None else self.now + patience
            task = make_task(self.created, stage=stage, deadline=deadline)
            self.created += 1
            self.scheduler.add(task, self.now)
            self.waiting[stage].append(task)

    @rule(step=st.sampled_from([0.1, 1.0, 3.0]))
    def time_passes(self, step):
        self.now += step

    @rule(stage=_STAGES, fixed=st.sampled_from([0.0, 0.5, 2.0]), per_row=st.sampled_from([0.0, 0.5, 1.0]))
    def learn(self, stage, fixed, per_row):
        self.times.costs[stage] = (fixed, per_row)

    @rule(stage=_STAGES, size=st.integers(1, MAX_BATCH))
    def run_out_of_memory(self, stage, size):
        self.limits.out_of_memory(stage, size)

    @precondition(lambda self: any(self.waiting))
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick):
        pick.choice([task for queue in self.waiting for task in queue]).cancelled = True
        self.scheduler.expect_cancelled()

    @rule()
    def step(self):
        step = self.scheduler.next_step(self.now)
        gone = {task.task_id for task in [*step.batch, *step.dropped]}
        left = [[task for task in queue if task.task_id not in gone] for queue in self.waiting]
        assert len(gone) == len(step.batch) + len(step.dropped), "someone left twice"
        self._check_starvation(step)
        end = self.now
        if step.batch:
            end += self.times.estimate(step.stage, len(step.batch))
            self._check_batch(step.stage, step.batch, left[step.stage], end)
        else:
            assert not any(left), "work waits and nothing runs"
        for task in step.dropped:
            assert task.cancelled or self._too_late(task, end), "dropped though it could finish"
        for task in (task for queue in left for task in queue):
            assert not task.cancelled
            assert not self._too_late(task, end), "kept though it cannot finish"
        self.waiting = left

    def _too_late(self, task, start):
        return task.deadline <= start or task.deadline < start + self.times.estimate(task.stage, 1)

    def _check_batch(self, stage, taken, left, end):
        ids = [task.task_id for task in taken]
        assert ids == sorted(ids)
        assert 1 <= len(ids) <= self.limits[stage]
        assert all(task.stage == stage and not task.cancelled for task in taken)
        assert all(task.deadline >= end and task.deadline > self.now for task in taken), "cannot finish in time"
        assert all(task.task_id > ids[-1] for task in left), "overtaken"
        here = [task for task in self.waiting[stage] if not task.cancelled and task.deadline > self.now]
        for more in range(len(ids) + 1, min(self.limits[stage], len(here)) + 1):
            in_time = [task for task in here if task.deadline >= self.now + self.times.estimate(stage, more)]
            assert len(in_time) < more, "a larger batch would have answered more in time"

    def _check_starvation(self, step):
        chosen = step.stage if step.batch else None
        at_once = {task.task_id for task in step.dropped if task.cancelled or self._too_late(task, self.now)}
        for stage, queue in enumerate(self.waiting):
            waited = any(task.task_id not in at_once for task in queue)
            self.passed_over[stage] = self.passed_over[stage] + 1 if waited and stage != chosen else 0
            assert self.passed_over[stage] <= 3 * NUM_STAGES - 2, "starved"

    @invariant()
    def nothing_is_lost(self):
        assert self.scheduler.queue_depths() == tuple(map(len, self.waiting))


TestSchedulerProperties = SchedulerMachine.TestCase
TestSchedulerProperties.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
