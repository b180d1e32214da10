"""Every way of running sends every image to its exit, and counts what it executed."""

import time
from contextlib import ExitStack

import numpy as np
import pytest
from engine_fakes import STAGE_MACS, FakeRunner, failing, pixels, policy

from service.capacity.walks import BatchSizes, held_together, open_loop, running_engine, saturated
from service.errors import InferenceError

EXITS = [0, 3, 0, 1, 0, 0, 2, 0]
IMAGES = [pixels(exit_stage) for exit_stage in EXITS]
WALK_MACS = {0: 1, 1: 3, 2: 7, 3: 15}


def test_saturated_every_image_leaves_at_its_exit_and_no_more_are_in_flight_than_allowed():
    runner = FakeRunner()
    seen = []
    runner.fault = lambda stage, tasks: seen.append(len(tasks))
    batches = BatchSizes()
    with running_engine(runner, batches, max_inflight=3, max_batch_size=16) as engine:
        walk, again = (saturated(engine, batches, IMAGES, policy(), 3) for _ in range(2))

    assert walk.exits == again.exits == {0: 5, 1: 1, 2: 1, 3: 1}
    assert walk.macs == sum(WALK_MACS[exit_stage] for exit_stage in EXITS)
    assert {stage: sum(sizes) for stage, sizes in again.batch_sizes.items()} == {0: 8, 1: 3, 2: 2, 3: 1}
    assert max(seen) <= 3


def test_held_together_of_one_is_request_by_request():
    runner = FakeRunner()
    walk = held_together(runner, IMAGES, policy(), 1)

    assert walk.exits == {0: 5, 1: 1, 2: 1, 3: 1}
    assert walk.macs == sum(WALK_MACS[exit_stage] for exit_stage in EXITS)
    assert len(walk.latencies_s) == len(IMAGES)
    assert runner.kept == {}


@pytest.mark.parametrize(("size", "stages_by_batch"), [(4, [4, 3]), (8, [4]), (3, [4, 2, 3])])
def test_held_together_rows_that_are_done_are_computed_until_the_slowest_may_leave(size, stages_by_batch):
    runner = FakeRunner()
    walk = held_together(runner, IMAGES, policy(), size)

    sizes = [len(IMAGES[first : first + size]) for first in range(0, len(IMAGES), size)]
    expected = [(stage, rows) for rows, stages in zip(sizes, stages_by_batch, strict=True) for stage in range(stages)]
    assert [(stage, len(ids)) for stage, ids in runner.batches] == expected
    assert walk.macs == sum(STAGE_MACS[stage] * rows for stage, rows in expected)
    assert walk.exits == {0: 5, 1: 1, 2: 1, 3: 1}
    assert runner.kept == {}


@pytest.fixture
def engine_of():
    """`engine_of(runner, max_inflight)`: an engine that is ready, and the observer of its batches."""
    with ExitStack() as stack:

        def make(runner, max_inflight=16):
            batches = BatchSizes()
            engine = running_engine(runner, batches, max_inflight=max_inflight, max_batch_size=4)
            return stack.enter_context(engine), batches

        yield make


def test_open_loop_every_image_is_submitted_when_due_and_answered_after(engine_of):
    engine, batches = engine_of(FakeRunner())
    seen = open_loop(engine, IMAGES, policy(), np.array([0.0, 0.001, 0.001, 0.002] * 5).cumsum(), max_inflight=16)

    assert len(seen.due_at) == 20
    assert (seen.submitted_at >= seen.due_at).all()
    assert (seen.ended_at >= seen.submitted_at).all()
    assert sum(batches.sizes[0]) == 20
    assert [len(batches.seconds[stage]) for stage in batches.sizes] == [len(sizes) for sizes in batches.sizes.values()]


def test_open_loop_image_that_fails_is_an_error(engine_of):
    engine, _ = engine_of(FakeRunner(failing(0)))
    with pytest.raises(InferenceError, match="stage 0 could not be computed"):
        open_loop(engine, IMAGES, policy(), np.zeros(3), max_inflight=16)


def test_open_loop_faster_than_the_engine_keeps_no_more_images_in_flight_than_it_was_built_for(engine_of):
    engine, _ = engine_of(FakeRunner(lambda stage, tasks: time.sleep(0.002)), 3)
    seen = open_loop(engine, IMAGES, policy(), np.zeros(20), max_inflight=3)

    in_flight = [(seen.submitted_at <= at).sum() - (seen.ended_at <= at).sum() for at in seen.submitted_at]
    assert 1 <= max(in_flight) <= 3
