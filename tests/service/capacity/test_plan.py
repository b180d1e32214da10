"""How many replicas: the promises a plan makes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.capacity.plan import MAX_SHARE_OF_CAPACITY, MAX_STEPS, Demand, make_plan
from service.errors import InvalidParameterError


def planned(replica, images=800, seed=0, **demand):
    return make_plan(replica, Demand(**{"rate": 1000, "p99_ms": 40, **demand}), images=images, seed=seed)


def test_make_plan_survivors_keep_the_target_up_to_the_limit_and_all_of_them_do_better(replica_of):
    replica, told = replica_of(), []
    plan = make_plan(replica, Demand(rate=1000, p99_ms=40), images=800, seed=0, on_step=told.append)

    assert plan.replicas == plan.needed + 1
    assert plan.lost.rate == pytest.approx(1000 / plan.needed)
    assert plan.normal.rate == pytest.approx(1000 / plan.replicas)
    assert plan.normal.p99_ms < plan.lost.p99_ms <= 40
    assert plan.lost.rate <= plan.limit.rate
    assert plan.limit.p99_ms <= 40 < replica.under(1.05 * plan.limit.rate, images=800, seed=0).p99_ms
    assert 3 <= len(told) <= MAX_STEPS
    assert all("images/s" in each for each in told)


@pytest.mark.parametrize(("spare", "replicas"), [(1, 2), (0, 1)])
def test_make_plan_of_a_small_rate_is_one_replica_and_the_spare_ones(replica_of, spare, replicas):
    plan = planned(replica_of(), images=300, rate=1, spare=spare)

    assert plan.replicas == replicas
    assert (plan.normal == plan.lost) == (spare == 0)


def test_make_plan_generous_target_never_fills_a_replica(replica_of):
    replica = replica_of()

    assert planned(replica, p99_ms=1e6).limit.rate == pytest.approx(MAX_SHARE_OF_CAPACITY * replica.capacity)


@pytest.mark.parametrize("p99_ms", [1.0, 6.999])
def test_make_plan_target_below_the_walk_alone_is_refused_with_both_numbers(replica_of, p99_ms):
    with pytest.raises(InvalidParameterError, match=rf"p99 of {p99_ms:g} ms .* takes 7\.00 ms"):
        planned(replica_of(overhead_s=0.001), p99_ms=p99_ms)


def test_make_plan_target_that_slow_batches_always_break_is_refused(replica_of, times_of):
    # One batch in ten takes ten times as long, at any rate.
    with pytest.raises(InvalidParameterError, match=r"p99 of 10 ms .* 6\.00 ms"):
        planned(replica_of(times_of(ratios=(1.0,) * 9 + (10.0,))), p99_ms=10)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), p99_ms=st.floats(12, 60), more=st.floats(1.0, 3.0), rate=st.floats(10, 3000))
def test_make_plan_more_is_never_fewer_replicas_and_more_patience_never_more(replica_of, seed, p99_ms, more, rate):
    def needed(**demand):
        return planned(replica_of(), images=300, seed=seed, **demand)

    plan, patient = needed(rate=rate, p99_ms=p99_ms), needed(rate=rate, p99_ms=more * p99_ms)
    assert patient.limit.rate >= plan.limit.rate
    assert patient.needed <= plan.needed
    assert needed(rate=more * rate, p99_ms=p99_ms).needed >= plan.needed


def test_more_replicas_never_worsen_the_percentile_beyond_its_estimates_error(replica_of):
    replica = replica_of(overhead_s=0.001)
    p99_ms = [replica.under(900 / replicas, images=3000, seed=0).p99_ms for replicas in (2, 3, 5, 14)]

    for fewer, more in itertools.pairwise(p99_ms):
        assert more <= 1.03 * fewer
