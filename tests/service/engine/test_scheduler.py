"""Which stage goes first; tests/service/engine/test_scheduler_properties.py has for whom, and what is dropped."""

import pytest
from engine_fakes import make_task

from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes


def _filled(depths, times=None):
    num_stages = len(depths)
    scheduler = Scheduler(num_stages, BatchLimits(num_stages, 4), times or StageTimes(num_stages))
    for stage, depth in enumerate(depths):
        for task_id in range(depth):
            scheduler.add(make_task(task_id, stage=stage), now=0.0)
    return scheduler


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
def test_next_step_picks_full_batches_then_the_deepest(depths, expected):
    scheduler, picked = _filled(depths), []
    while (step := scheduler.next_step(0.0)).batch:
        picked.append((step.stage, len(step.batch)))
    assert picked == expected


def test_next_step_flood_at_every_stage_but_one_stays_within_the_bound():
    scheduler, passed_over = _filled((1, 4, 4, 4)), 0
    while (stage := scheduler.next_step(0.0).stage) > 0:
        passed_over += 1
        for _ in range(4):
            scheduler.add(make_task(stage=stage), now=0.0)
    assert 8 <= passed_over <= 3 * 4 - 2


def test_next_step_estimate_too_high_is_given_another_chance():
    times = StageTimes(1)
    times.observe(0, 1, 100.0)
    scheduler, tried, step = _filled((0,), times), 0, None
    while tried < 200 and not (step and step.batch):
        tried += 1
        scheduler.add(make_task(deadline=1.0), now=0.0)
        step = scheduler.next_step(0.0)
    assert 10 < tried < 200
    times.observe(0, 1, 0.5)
    scheduler.add(make_task(deadline=1.0), now=0.0)
    assert scheduler.next_step(0.0).batch
