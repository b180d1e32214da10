from collections.abc import Iterator

import numpy as np
import pytest
from engine_fakes import policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.scheduler import DropReason, Scheduler
from service.engine.task import Task

PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)


def _task(task_id: int, stage: int = 0, deadline: float | None = None) -> Task:
    return Task(task_id=task_id, pixels=PIXELS, policy=policy(), submitted_at=0.0, stage=stage, deadline=deadline)


def _filled(depths: tuple[int, ...], max_batch_size: int = 4) -> Scheduler:
    scheduler, ids = Scheduler(len(depths), max_batch_size), iter(range(1000))
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            scheduler.add(_task(next(ids), stage), now=0.0)
    return scheduler


def _stages(scheduler: Scheduler) -> Iterator[tuple[int, int]]:
    while (batch := scheduler.next_batch()) is not None:
        yield batch.stage, len(batch.tasks)


def test_next_batch_nothing_waiting_is_none() -> None:
    assert Scheduler(4, 8).next_batch() is None


def test_next_batch_single_task_runs_at_once() -> None:
    assert list(_stages(_filled((0, 0, 1, 0)))) == [(2, 1)]


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((4, 0, 3, 0), [(0, 4), (2, 3)]),  # the fullest
        ((2, 2, 0, 2), [(3, 2), (1, 2), (0, 2)]),  # among equals the deepest
        ((9, 5, 0, 0), [(1, 4), (0, 4), (0, 4), (1, 1), (0, 1)]),  # no more than the limit
    ],
)
def test_next_batch_picks_fullest_then_deepest(depths: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert list(_stages(_filled(depths))) == expected


def test_next_batch_takes_the_oldest_in_order() -> None:
    scheduler = _filled((6,), max_batch_size=4)
    assert [[task.task_id for task in batch.tasks] for batch in iter(scheduler.next_batch, None)] == [
        [0, 1, 2, 3],
        [4, 5],
    ]


@pytest.mark.parametrize(("flooded", "lonely"), [(0, 3), (3, 0), (2, 1)])
def test_next_batch_flooded_stage_does_not_starve_a_single_task(flooded: int, lonely: int) -> None:
    scheduler = Scheduler(4, 4)
    scheduler.add(_task(0, lonely), now=0.0)
    served = []
    for _ in range(3 * 4 - 1):
        for task_id in range(4):
            scheduler.add(_task(task_id, flooded), now=0.0)
        batch = scheduler.next_batch()
        assert batch is not None
        served.append(batch.stage)
    assert served == [flooded] * 8 + [lonely] + [flooded] * 2


def test_next_batch_flood_at_every_stage_but_one_stays_within_the_bound() -> None:
    scheduler, passed_over = Scheduler(4, 4), 0
    scheduler.add(_task(0, stage=0), now=0.0)
    while True:
        for stage in (1, 2, 3):
            for task_id in range(4):
                scheduler.add(_task(task_id, stage), now=0.0)
        batch = scheduler.next_batch()
        assert batch is not None
        if batch.stage == 0:
            break
        passed_over += 1
    assert 8 <= passed_over <= 3 * 4 - 2


def test_sweep_drops_cancelled_and_expired_tasks_with_the_reason() -> None:
    scheduler = Scheduler(2, 4)
    alive, cancelled, expired = _task(0), _task(1), _task(2, stage=1, deadline=5.0)
    for task in (alive, cancelled, expired):
        scheduler.add(task, now=0.0)
    cancelled.cancelled = True
    assert scheduler.sweep(now=4.0) == []  # nobody said so, and no deadline has passed
    scheduler.expect_cancelled()
    assert [(drop.task, drop.reason) for drop in scheduler.sweep(now=4.0)] == [(cancelled, DropReason.CANCELLED)]
    assert [(drop.task, drop.reason) for drop in scheduler.sweep(now=5.0)] == [(expired, DropReason.EXPIRED)]
    assert scheduler.queue_depths() == (1, 0)


def test_drain_takes_everything_deepest_first() -> None:
    scheduler = _filled((1, 0, 2, 0))
    assert [task.stage for task in scheduler.drain()] == [2, 2, 0]
    assert len(scheduler) == 0


@pytest.mark.parametrize(("stages", "limit"), [(0, 1), (1, 0)])
def test_scheduler_impossible_sizes_raise(stages: int, limit: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Scheduler(stages, limit)


class SchedulerMachine(RuleBasedStateMachine):
    """Any sequence of arrivals, batches, cancellations and deadlines, against a model of lists."""

    num_stages = 3
    limit = 4

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(self.num_stages, self.limit)
        self.now = 0.0
        self.waiting: list[list[Task]] = [[] for _ in range(self.num_stages)]
        self.passed_over = [0] * self.num_stages
        self.created = self.ended = 0

    @rule(stage=st.integers(0, 2), count=st.integers(1, 6), patience=st.none() | st.floats(0.5, 5))
    def arrive(self, stage: int, count: int, patience: float | None) -> None:
        for _ in range(count):
            deadline = None if patience is None else self.now + patience
            task = _task(self.created, stage, deadline)
            self.created += 1
            self.scheduler.add(task, self.now)
            self.waiting[stage].append(task)

    @rule(step=st.floats(0.1, 3))
    def time_passes(self, step: float) -> None:
        self.now += step

    @precondition(lambda self: any(self.waiting))
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: object) -> None:
        task = pick.choice([task for queue in self.waiting for task in queue])  # type: ignore[attr-defined]
        task.cancelled = True
        self.scheduler.expect_cancelled()

    @rule()
    def step(self) -> None:
        gone = {
            task.task_id
            for queue in self.waiting
            for task in queue
            if task.cancelled or (task.deadline is not None and task.deadline <= self.now)
        }
        dropped = self.scheduler.sweep(self.now)
        assert {drop.task.task_id for drop in dropped} == gone
        assert all((drop.reason is DropReason.CANCELLED) == drop.task.cancelled for drop in dropped)
        self.waiting = [[task for task in queue if task.task_id not in gone] for queue in self.waiting]
        self.ended += len(dropped)

        batch = self.scheduler.next_batch()
        if batch is None:
            assert not any(self.waiting), "work waits and nothing runs"
            return
        expected = self.waiting[batch.stage][: self.limit]
        assert list(batch.tasks) == expected, "not the oldest, or not as many as fit"
        del self.waiting[batch.stage][: self.limit]
        self.ended += len(batch.tasks)
        for stage, queue in enumerate(self.waiting):
            self.passed_over[stage] = self.passed_over[stage] + 1 if queue and stage != batch.stage else 0
            assert self.passed_over[stage] <= 3 * self.num_stages - 2, "starved"

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.scheduler.queue_depths() == tuple(map(len, self.waiting))
        assert self.created == self.ended + len(self.scheduler)


TestSchedulerProperties = SchedulerMachine.TestCase
TestSchedulerProperties.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
