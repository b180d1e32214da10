from typing import Any

import pytest
import torch

from weights.conversion.foreign import Checkpoint, ConversionError
from weights.conversion.operating_points import sensible_default, stated_exits, stated_operating_points
from weights.store import NamedOperatingPoint

EXTRAS: dict[str, Any] = {
    "dynamic_threshold": torch.tensor([[0.25, 0.5, -1e8], [0.75, 1e8, -1e8]]),
    "budgeted_batch_classification": [[1.5, 3.0], [60.0, 75.5]],
    "anytime_classification": [50.0, 60.0, 75.5],
    "flops": [1.0, 2.0, 4.0],
}


def _checkpoint(**changes: object) -> Checkpoint:
    extras = {key: value for key, value in (EXTRAS | changes).items() if value is not None}
    return Checkpoint({}, extras, "")


def test_stated_nothing_where_the_file_has_no_tables() -> None:
    checkpoint = Checkpoint({}, {}, "")
    assert stated_operating_points(checkpoint, 3) == ()
    stated = stated_exits(checkpoint, 3)
    assert (stated["exit_top1"], stated["exit_macs"]) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dynamic_threshold": None}, "dynamic_threshold and .* together, found budgeted_batch_classification alone"),
        ({"dynamic_threshold": torch.zeros(2, 2)}, r"dynamic_threshold: .* of shape \[-1, 3\], found \[2, 2\]"),
        ({"dynamic_threshold": torch.zeros(4, 3)}, r"budgeted.*shape \[2, 4\], found \[2, 2\]"),
        ({"dynamic_threshold": torch.full((2, 3), -0.5)}, "dynamic_threshold: expected finite numbers from 0"),
        ({"budgeted_batch_classification": [[1.0], [1.0, 2.0]]}, "budgeted.*found something else"),
        ({"budgeted_batch_classification": [[1.0, float("inf")], [1.0, 2.0]]}, "expected finite numbers"),
    ],
)
def test_stated_operating_points_wrong_table_raises_naming_it(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        stated_operating_points(_checkpoint(**changes), 3)


def test_stated_exits_wrong_count_raises_naming_it() -> None:
    with pytest.raises(ConversionError, match=r"flops: expected numbers of shape \[3\], found \[2\]"):
        stated_exits(_checkpoint(flops=[1.0, 2.0]), 3)


def test_sensible_default_is_the_cheapest_within_half_a_point() -> None:
    outcomes = [(0.700, 1.0), (0.745, 3.0), (0.746, 2.0), (0.750, 5.0), (0.7449, 1.5)]
    points = tuple(
        NamedOperatingPoint(name=str(index), thresholds=(), accuracy=accuracy, mean_macs=macs)
        for index, (accuracy, macs) in enumerate(outcomes)
    )
    assert sensible_default(points).name == "2"
