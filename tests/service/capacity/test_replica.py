"""One replica under load: by hand where it can be, and in its tendencies."""

import itertools
import math

import numpy as np
import pytest

from service.capacity.replica import waits_ms
from service.capacity.simulation import AnsweredImage, SimulationResult


def test_capacity_is_the_engines_in_full_batches_or_the_front_ends(replica_of, times_of):
    # All images run 8 ms, half of them another 16 ms, for eight of them.
    assert replica_of().capacity == pytest.approx(8 / (0.008 + 0.016 / 2))
    assert replica_of(overhead_s=0.004).capacity == pytest.approx(250)
    assert replica_of(overhead_s=0.0).front_end_capacity == math.inf
    assert replica_of(times_of(engine_ms=1.0)).capacity == pytest.approx(8 / (0.016 + 0.008))


def test_largest_batches_end_where_the_engines_warm_up_does(replica_of, times_of):
    slow = times_of(seconds=((0.002, 0.008), (0.2, 0.8)))
    assert replica_of(slow).largest_batches == (8, 1)
    assert replica_of(slow).engine_capacity == pytest.approx(1 / (0.001 + 0.2 / 2))
    assert replica_of(slow.model_copy(update={"device": "cuda"})).largest_batches == (8, 8)


@pytest.mark.parametrize(
    ("device", "cores", "threads", "front_ends", "expected"),
    [
        ("cpu", 2, 1, 1, 1),
        ("cpu", 8, 4, 8, 4),
        ("cpu", 8, 4, 2, 2),
        ("cpu", 2, 2, 1, 0),
        ("cpu", 2, 1, 0, 0),
        ("cuda", 8, 4, 16, 7),
    ],
)
def test_front_end_cores_are_those_the_engine_leaves(
    replica_of, times_of, device, cores, threads, front_ends, expected
):
    times = times_of(device=device, cores=cores, threads=threads)
    assert replica_of(times, front_ends=front_ends).front_end_cores == expected


def test_front_ends_without_a_core_of_their_own_slow_the_engine_down(replica_of, times_of):
    shared = replica_of(times_of(cores=1), overhead_s=0.001)

    assert shared.capacity == pytest.approx(8 / (0.016 + 0.008))
    assert shared.under(1.0, images=1000, seed=0).p50_ms >= 1000 * (0.002 + 0.001) - 1e-6


def test_alone_s_is_the_walk_of_the_slowest_that_count(replica_of, times_of):
    replica = replica_of(times_of(engine_ms=0.1), overhead_s=0.001, exits=np.array([0] * 199 + [1]))

    assert replica.alone_s(0.99) == pytest.approx(0.002 + 0.001 + 0.0001)
    assert replica.alone_s(1.0) == pytest.approx(0.006 + 0.001 + 0.0001)


def test_under_hardly_any_load_images_walk_alone(replica_of):
    load = replica_of(overhead_s=0.001).under(0.01, images=1000, seed=0)

    assert load.p99_ms == pytest.approx(7.0)
    assert load.mean_batch == (1.0, 1.0)
    assert load.refused == 0
    # 2 ms and for every other one 4 ms more, at one image in 100 s.
    assert load.utilisation == pytest.approx(0.01 * 0.004, rel=0.2)
    assert load.front_end_utilisation == pytest.approx(0.00001)


def test_under_more_load_utilisation_batches_and_latency_grow(replica_of):
    replica = replica_of(overhead_s=0.001)
    loads = [replica.under(rate, images=1500, seed=0) for rate in (20, 120, 400)]

    for lighter, heavier in itertools.pairwise(loads):
        assert heavier.utilisation > lighter.utilisation
        assert heavier.front_end_utilisation > lighter.front_end_utilisation
        assert heavier.mean_batch[0] > lighter.mean_batch[0]
        assert heavier.p99_ms > lighter.p99_ms


def test_under_twice_the_capacity_images_are_refused_and_none_waits_for_ever(replica_of):
    replica = replica_of(max_inflight=32)
    load = replica.under(2 * replica.capacity, images=2000, seed=0)

    assert load.refused == pytest.approx(0.5, abs=0.1)
    assert load.p99_ms < 1000 * 4 * 32 / replica.capacity


def test_under_the_same_seed_gives_the_same(replica_of, times_of):
    replica = replica_of(times_of(ratios=(0.9, 1.1, 2.0)))

    assert replica.under(100, images=1000, seed=3) == replica.under(100, images=1000, seed=3)
    assert replica.under(100, images=1000, seed=3) != replica.under(100, images=1000, seed=4)


def test_front_ends_that_cannot_keep_up_make_images_wait_before_the_engine(replica_of):
    slow = replica_of(overhead_s=0.01)

    # Twice what one front end can decode: the wait grows over the whole load.
    assert slow.under(200, images=1000, seed=0).p50_ms > 1000
    assert slow.under(20, images=1000, seed=0).p50_ms < 100


def test_waits_ms_are_of_the_middle_three_fifths_from_the_arrival_given():
    answered = [AnsweredImage(image, 0.0, 1.0 if 2 <= image < 8 else 99.0) for image in range(10)]
    outcome = SimulationResult([[]], answered)

    assert waits_ms(outcome) == (1000.0, 1000.0)
    assert waits_ms(outcome, [0.5] * 10) == (500.0, 500.0)
