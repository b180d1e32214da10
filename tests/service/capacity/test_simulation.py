"""The simulated engine: by hand where it is small, and what must hold for any images at any times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.capacity.simulation import AnsweredImage, SchedulerSimulation, known_exits
from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes

STAGES = 3


def simulation(exit_of, seconds=lambda stage, size: 1.0, *, full=4, room=1000):
    scheduler = Scheduler(STAGES, BatchLimits(STAGES, full), StageTimes(STAGES))
    return SchedulerSimulation(scheduler, known_exits(exit_of), seconds, room)


def test_open_loop_images_wait_for_the_batch_in_progress_and_deep_ones_go_on():
    # The first runs alone from 0 to 1; the second has come meanwhile, but the deeper stage goes first.
    outcome = simulation([1, 0]).open_loop([0.0, 0.5])

    assert outcome.answered == [AnsweredImage(0, 0.0, 2.0), AnsweredImage(1, 0.5, 3.0)]
    assert outcome.batches == [[1, 1], [1], []]
    assert (outcome.busy_s, outcome.ended_at, outcome.refused) == (3.0, 3.0, 0)


def test_open_loop_idle_time_is_not_busy():
    outcome = simulation([0, 0]).open_loop([0.0, 10.0])

    assert outcome.busy_s == 2.0
    assert outcome.ended_at == 11.0


def test_open_loop_without_room_refuses():
    outcome = simulation([0] * 5, room=2).open_loop([0.0, 0.1, 0.2, 0.3, 5.0])

    # One in the batch and one that waits are in flight; those of 0.2 and 0.3 find no room.
    assert [each.image for each in outcome.answered] == [0, 1, 4]
    assert outcome.refused == 2


def test_closed_loop_clients_send_when_they_are_answered():
    outcome = simulation([0] * 6, full=2).closed_loop(clients=2, images=6)

    assert outcome.batches[0] == [2, 2, 2]
    assert [each.arrived_at for each in outcome.answered] == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


def test_listeners_are_told_of_every_turn_and_of_idleness():
    told = []

    scheduler = Scheduler(STAGES, BatchLimits(STAGES, 4), StageTimes(STAGES))
    listeners = {name: lambda now, name=name: told.append((name, now)) for name in ("on_turn", "on_idle")}
    SchedulerSimulation(scheduler, known_exits([0]), lambda stage, size: 1.0, 10, **listeners).open_loop([3.0])

    assert told == [("on_turn", 0.0), ("on_idle", 0.0), ("on_turn", 3.0), ("on_turn", 4.0)]


@given(
    images=st.lists(st.tuples(st.floats(0, 2), st.integers(0, STAGES - 1)), min_size=1, max_size=80),
    full=st.integers(1, 8),
    room=st.integers(1, 40),
    fixed=st.floats(0.01, 1),
    per_row=st.floats(0, 0.2),
)
def test_any_images_are_conserved_and_none_is_faster_than_its_own_walk(images, full, room, fixed, per_row):
    arrivals = np.cumsum([gap for gap, _ in images]).tolist()
    exit_of = [exit_ for _, exit_ in images]
    outcome = simulation(exit_of, lambda stage, size: fixed + per_row * size, full=full, room=room).open_loop(arrivals)

    answered = [each.image for each in outcome.answered]
    assert len(answered) == len(set(answered)) == len(images) - outcome.refused
    for stage, sizes in enumerate(outcome.batches):
        assert sum(sizes) == sum(exit_of[image] >= stage for image in answered)
        assert all(1 <= size <= full for size in sizes)
    assert outcome.busy_s == pytest.approx(sum(fixed + per_row * size for sizes in outcome.batches for size in sizes))
    assert outcome.busy_s <= outcome.ended_at + 1e-9
    for each in outcome.answered:
        walk = (exit_of[each.image] + 1) * (fixed + per_row)
        assert each.arrived_at == arrivals[each.image]
        assert each.ended_at - each.arrived_at >= walk - 1e-9
