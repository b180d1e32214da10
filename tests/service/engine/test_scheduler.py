from collections.abc import Iterator

import numpy as np
import pytest
from engine_fakes import policy

from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.engine.task import Task

PIXELS = np.zeros((3, 1, 1), dtype=np.uint8)


def _task(task_id: int, stage: int = 0, deadline: float | None = None) -> Task:
    return Task(task_id=task_id, pixels=PIXELS, policy=policy(), submitted_at=0.0, stage=stage, deadline=deadline)


def _scheduler(num_stages: int, max_batch_size: int = 4, times: StageTimes | None = None) -> Scheduler:
    return Scheduler(num_stages, BatchLimits(num_stages, max_batch_size), times or StageTimes(num_stages))


def _filled(depths: tuple[int, ...], max_batch_size: int = 4) -> Scheduler:
    scheduler, ids = _scheduler(len(depths), max_batch_size), iter(range(1000))
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            scheduler.add(_task(next(ids), stage), now=0.0)
    return scheduler


def _stages(scheduler: Scheduler) -> Iterator[tuple[int, int]]:
    while (batch := scheduler.next_step(0.0).batch) is not None:
        yield batch.stage, len(batch.tasks)


def test_next_step_nothing_waiting_has_no_batch() -> None:
    assert _scheduler(4).next_step(0.0).batch is None


def test_next_step_single_task_runs_at_once() -> None:
    assert list(_stages(_filled((0, 0, 1, 0)))) == [(2, 1)]


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((4, 0, 3, 0), [(0, 4), (2, 3)]),  # full before deep
        ((4, 5, 0, 3), [(1, 4), (0, 4), (3, 3), (1, 1)]),  # the deepest of the full ones
        ((3, 2, 0, 1), [(3, 1), (1, 2), (0, 3)]),  # none is full: the deepest
        ((9, 0, 0, 0), [(0, 4), (0, 4), (0, 1)]),  # no more than the limit
    ],
)
def test_next_step_picks_full_batches_then_the_deepest(
    depths: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    assert list(_stages(_filled(depths))) == expected


def _next_ids(scheduler: Scheduler, now: float = 0.0) -> list[int]:
    batch = scheduler.next_step(now).batch
    return [] if batch is None else [task.task_id for task in batch.tasks]


def test_next_step_takes_the_oldest_in_order() -> None:
    scheduler = _filled((6,), max_batch_size=4)
    assert [_next_ids(scheduler) for _ in range(3)] == [[0, 1, 2, 3], [4, 5], []]


def test_next_step_lowered_limit_of_a_stage_holds_for_that_stage_alone() -> None:
    limits = BatchLimits(2, 4)
    scheduler = Scheduler(2, limits, StageTimes(2))
    for task_id in range(8):
        scheduler.add(_task(task_id, stage=task_id % 2), now=0.0)
    limits.out_of_memory(1, 4)
    assert list(_stages(scheduler)) == [(1, 2), (1, 2), (0, 4)]


@pytest.mark.parametrize(("flooded", "lonely"), [(0, 3), (3, 0), (2, 1)])
def test_next_step_flooded_stage_does_not_starve_a_single_task(flooded: int, lonely: int) -> None:
    scheduler = _scheduler(4)
    scheduler.add(_task(0, lonely), now=0.0)
    served = []
    for _ in range(3 * 4 - 1):
        for task_id in range(4):
            scheduler.add(_task(task_id, flooded), now=0.0)
        batch = scheduler.next_step(0.0).batch
        assert batch is not None
        served.append(batch.stage)
    assert served == [flooded] * 8 + [lonely] + [flooded] * 2


def test_next_step_flood_at_every_stage_but_one_stays_within_the_bound() -> None:
    scheduler, passed_over = _scheduler(4), 0
    scheduler.add(_task(0, stage=0), now=0.0)
    while True:
        for stage in (1, 2, 3):
            for task_id in range(4):
                scheduler.add(_task(task_id, stage), now=0.0)
        batch = scheduler.next_step(0.0).batch
        assert batch is not None
        if batch.stage == 0:
            break
        passed_over += 1
    assert 8 <= passed_over <= 3 * 4 - 2


def test_next_step_drops_cancelled_and_expired_tasks() -> None:
    scheduler = _scheduler(2)
    alive, cancelled, expired = _task(0), _task(1), _task(2, deadline=5.0)
    for task in (alive, cancelled, expired):
        scheduler.add(task, now=0.0)
    cancelled.cancelled = True
    scheduler.expect_cancelled()
    step = scheduler.next_step(now=5.0)
    assert step.dropped == [cancelled, expired]
    assert step.batch is not None
    assert step.batch.tasks == [alive]
    assert scheduler.queue_depths() == (0, 0)


def _times(*costs: tuple[float, float]) -> StageTimes:
    """Stage times that are known: (fixed, per image) seconds of each stage."""
    times = StageTimes(len(costs))
    for stage, (fixed, per_row) in enumerate(costs):
        for size in (1, 4) * 50:
            times.observe(stage, size, fixed + per_row * size)
    return times


@pytest.mark.parametrize(("deadline", "started"), [(1.9, False), (2.1, True)])
def test_next_step_stage_that_ends_after_the_deadline_is_not_started(deadline: float, started: bool) -> None:
    scheduler = _scheduler(1, times=_times((1.0, 1.0)))
    scheduler.add(_task(0, deadline=deadline), now=0.0)
    step = scheduler.next_step(now=0.0)
    assert (step.batch is not None) == started
    assert len(step.dropped) == (not started)


def test_next_step_batch_shrinks_to_answer_most_in_time() -> None:
    scheduler = _scheduler(1, times=_times((0.0, 1.0)))
    for task_id, deadline in enumerate([1.1, 3.1, 3.2, None]):
        scheduler.add(_task(task_id, deadline=deadline), now=0.0)
    step = scheduler.next_step(now=0.0)
    assert step.batch is not None
    assert [task.task_id for task in step.batch.tasks] == [1, 2, 3]
    assert [task.task_id for task in step.dropped] == [0]


def test_next_step_who_cannot_finish_after_the_batch_is_dropped_at_once() -> None:
    scheduler = _scheduler(2, times=_times((0.0, 1.0), (2.0, 0.5)))
    scheduler.add(_task(0, stage=1), now=0.0)
    for task_id, deadline in [(1, 3.4), (2, 3.6)]:
        scheduler.add(_task(task_id, stage=0, deadline=deadline), now=0.0)
    step = scheduler.next_step(now=0.0)  # stage 1 until 2.5, then one second for stage 0
    assert step.batch is not None
    assert step.batch.stage == 1
    assert [task.task_id for task in step.dropped] == [1]
    assert _next_ids(scheduler, now=2.5) == [2]


def test_next_step_estimate_too_high_is_given_another_chance() -> None:
    times = StageTimes(1)
    times.observe(0, 1, 100.0)
    scheduler, tried = _scheduler(1, times=times), 0
    while True:
        tried += 1
        scheduler.add(_task(tried, deadline=1.0), now=0.0)
        if scheduler.next_step(now=0.0).batch is not None:
            break
    assert 10 < tried < 200
    times.observe(0, 1, 0.5)
    scheduler.add(_task(0, deadline=1.0), now=0.0)
    assert _next_ids(scheduler) == [0]


def test_drain_takes_everything_deepest_first() -> None:
    scheduler = _filled((1, 0, 2, 0))
    assert [task.stage for task in scheduler.drain()] == [2, 2, 0]
    assert len(scheduler) == 0
