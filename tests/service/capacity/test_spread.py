"""Medians and percentiles of few and of many values."""

import math

import pytest

from service.capacity.spread import Spread, percentile


def test_spread_keeps_the_median_and_the_extremes():
    assert Spread.of([3.0, 1.0, 9.0]) == Spread(3.0, 1.0, 9.0)
    assert f"{Spread.of([3.0, 1.0, 9.0]):.1f}" == "3.0 (1.0-9.0)"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.995, 100), (1.0, 100)])
def test_percentile_is_a_value_that_the_share_does_not_exceed(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 0.5))
