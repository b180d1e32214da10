import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.stage_times import StageTimes


def test_estimate_after_batches_of_several_sizes_finds_fixed_and_per_row_cost():
    times, rng = StageTimes(2), random.Random(0)
    for _ in range(200):
        size = rng.randint(1, 64)
        times.observe(1, size, (0.003 + 0.001 * size) * rng.uniform(0.9, 1.1))
    assert times.estimate(1, 1) == pytest.approx(0.004, rel=0.3)
    assert times.estimate(1, 32) == pytest.approx(0.035, rel=0.1)
    assert times.estimate(0, 32) == 0.0


def test_estimate_one_size_seen_larger_ones_cost_in_proportion():
    times = StageTimes(1)
    times.observe(0, 8, 0.016)
    assert (times.estimate(0, 8), times.estimate(0, 16)) == pytest.approx((0.016, 0.032))


def test_observe_one_hiccup_hardly_moves_the_estimate_and_a_lasting_slowdown_is_learnt():
    times = StageTimes(1)
    for seconds in [0.01] * 50 + [10.0]:
        times.observe(0, 4, seconds)
    assert times.estimate(0, 4) < 0.012
    for _ in range(100):
        times.observe(0, 4, 0.1)
    assert times.estimate(0, 4) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("confirmed_s", "small", "large"), [(110.0, 100.0, 200.0), (0.5, 0.5, 1.0)])
def test_doubt_lowers_the_estimates_of_its_stage_until_a_batch_confirms_or_scales_them(confirmed_s, small, large):
    times = StageTimes(2)
    for size in (1, 11) * 50:
        for stage in (0, 1):
            times.observe(stage, size, 90.0 + 10.0 * size)
    for _ in range(20):
        times.doubt(0)
    assert times.estimate(0, 1) < 40
    assert times.estimate(1, 1) == pytest.approx(100.0, rel=0.02)
    times.observe(0, 1, confirmed_s)
    assert times.estimate(0, 1) == pytest.approx(small, rel=0.05)
    assert times.estimate(0, 11) == pytest.approx(large, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 128), st.floats(0, 100)), min_size=1, max_size=20))
@settings(max_examples=30)
def test_estimate_any_observations_is_finite_positive_and_grows_with_the_batch(batches):
    times = StageTimes(1)
    for size, seconds in batches:
        times.observe(0, size, seconds)
    estimates = [times.estimate(0, size) for size in (1, 2, 64, 128)]
    assert estimates == sorted(estimates)
    assert estimates[0] >= -1e-9
    assert estimates[-1] < 100 * 128 * 3
