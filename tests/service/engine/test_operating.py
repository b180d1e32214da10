import math
from datetime import UTC, datetime

import pytest

from service.engine.operating import OF_THE_MODEL, Change, OperatingPoint, Target, parse_thresholds
from service.errors import InvalidParameterError


def test_parse_thresholds_one_number_is_for_all_exits():
    assert parse_thresholds(0.9, 4) == (0.9, 0.9, 0.9)
    assert parse_thresholds([0, 1, 1.5], 4) == (0.0, 1.0, 1.5)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "0.5", [0.5] * 4, [0.5, 0.5, None], 10**400])
def test_parse_thresholds_invalid_raises(value):
    with pytest.raises(InvalidParameterError, match="threshold"):
        parse_thresholds(value, 4)


def test_changed_is_the_next_version_and_leaves_the_old_one_as_it_was():
    before = OperatingPoint(version=1, thresholds=(0.9, 0.8), updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    change = Change(thresholds=(0.5, 0.4), target=Target("accuracy", 0.7), changed_by="alice")
    after = before.changed(change, "abc")
    assert (before.version, before.thresholds, before.changed_by) == (1, (0.9, 0.8), OF_THE_MODEL)
    assert (after.version, after.thresholds, after.target) == (2, change.thresholds, change.target)
    assert (after.changed_by, after.calibration) == ("alice", "abc")
    assert after.updated_at > before.updated_at
    assert after.updated_at.utcoffset() is not None
