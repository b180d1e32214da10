"""Percentiles of few and of many values."""

import math

import pytest

from benchmarks.http.tally import percentile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.995, 100), (1.0, 100)])
def test_percentile_is_a_value_that_the_share_does_not_exceed(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 0.5))
