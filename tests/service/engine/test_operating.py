import math
import threading

import pytest

from service.engine.operating import OperatingPoints, parse_thresholds
from service.errors import InvalidParameterError, VersionConflictError


def test_parse_thresholds_one_number_is_for_all_exits() -> None:
    assert parse_thresholds(0.9, 4) == (0.9, 0.9, 0.9)
    assert parse_thresholds([0, 1, 1.5], 4) == (0.0, 1.0, 1.5)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "0.5", [0.5], [0.5] * 4, [0.5, 0.5, None], 10**400])
def test_parse_thresholds_invalid_raises(value: object) -> None:
    with pytest.raises(InvalidParameterError, match="threshold"):
        parse_thresholds(value, 4)  # type: ignore[arg-type]


def test_update_counts_versions_and_keeps_old_values_unchanged() -> None:
    points = OperatingPoints((0.9, 0.8, 0.7))
    before = points.current
    after = points.update(0.5)
    assert (before.version, before.thresholds) == (1, (0.9, 0.8, 0.7))
    assert (after.version, after.thresholds) == (2, (0.5, 0.5, 0.5))
    assert points.current is after
    assert after.updated_at.tzinfo is not None


def test_update_invalid_leaves_the_configuration() -> None:
    points = OperatingPoints((0.9, 0.8, 0.7))
    with pytest.raises(InvalidParameterError):
        points.update([0.1, 0.2, -1.0])
    assert points.current.version == 1


def test_update_with_a_stale_version_raises_and_leaves_the_configuration() -> None:
    points = OperatingPoints((0.9,))
    points.update(0.5, if_version=1)
    with pytest.raises(VersionConflictError, match="at version 2, not 1"):
        points.update(0.4, if_version=1)
    assert points.current.thresholds == (0.5,)


def test_update_concurrently_with_one_version_exactly_one_wins() -> None:
    points, outcomes = OperatingPoints((0.9,)), []
    barrier = threading.Barrier(8)

    def update(value: float) -> None:
        barrier.wait()
        try:
            outcomes.append(points.update(value, if_version=1).version)
        except VersionConflictError:
            outcomes.append(0)

    threads = [threading.Thread(target=update, args=(index / 10,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0] * 7 + [2]
