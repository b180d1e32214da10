"""Which stage goes first; tests/service/engine/test_scheduler_properties.py has for whom, and what is dropped."""

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


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((4, 0, 3, 0), [(0, 4), (2, 3)]),  # full before deep
        ((4, 5, 0, 3), [(1, 4), (0, 4), (3, 3), (1, 1)]),  # the deepest of the full ones
        ((3, 2, 0, 1), [(3, 1), (1, 2), (0, 3)]),  # none is full: the deepest
        ((9, 0, 0, 0), [(0, 4), (0, 4), (0, 1)]),  # no more than the limit
        ((0, 0, 0, 0), []),
    ],
)
def test_next_step_picks_full_batches_then_the_deepest(
    depths: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    assert list(_stages(_filled(depths))) == expected


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
    batch = scheduler.next_step(0.0).batch
    assert batch is not None
    assert [task.task_id for task in batch.tasks] == [0]


def test_drain_takes_everything_deepest_first() -> None:
    scheduler = _filled((1, 0, 2, 0))
    assert [task.stage for task in scheduler.drain()] == [2, 2, 0]
    assert len(scheduler) == 0
