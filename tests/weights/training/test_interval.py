import pytest

from weights.training.interval import wilson_interval


@pytest.mark.parametrize(
    ("right", "total", "expected"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (15, 20, (0.5313, 0.8881)), (900, 1000, (0.8799, 0.9171))],
)
def test_wilson_interval_known_counts_are_those_of_the_tables(
    right: int, total: int, expected: tuple[float, float]
) -> None:
    assert wilson_interval(right, total) == pytest.approx(expected, abs=1e-4)
