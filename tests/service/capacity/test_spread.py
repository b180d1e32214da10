"""The summary of repeated measurements."""

from service.capacity.spread import Spread


def test_spread_keeps_the_median_and_the_extremes():
    assert Spread.of([3.0, 1.0, 9.0]) == Spread(3.0, 1.0, 9.0)
    assert f"{Spread.of([3.0, 1.0, 9.0]):.1f}" == "3.0 (1.0-9.0)"
