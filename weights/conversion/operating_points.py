"""Operating points stored in a released checkpoint: thresholds per budget, with accuracy and cost."""

from typing import Any

import torch
from torch import Tensor

from weights.conversion.foreign import Checkpoint, ConversionError
from weights.store import NamedOperatingPoint

_ACCURACY_DROP = 0.005


def stated_operating_points(checkpoint: Checkpoint, num_exits: int) -> tuple[NamedOperatingPoint, ...]:
    """One point for each budget of the file, `budget-1` the cheapest; none where the file has no table.

    Raises:
        ConversionError: when a table has a wrong shape, exists without the other, or holds impossible values.
    """
    keys = ("dynamic_threshold", "budgeted_batch_classification")
    present = [key for key in keys if key in checkpoint.extras]
    if not present:
        return ()
    if len(present) < len(keys):
        raise ConversionError(f"expected {keys[0]} and {keys[1]} together, found {present[0]} alone")
    thresholds = _table(checkpoint.extras, keys[0], (-1, num_exits))
    outcomes = _table(checkpoint.extras, keys[1], (2, len(thresholds)))
    return tuple(
        NamedOperatingPoint(
            name=f"budget-{number}",
            thresholds=tuple(row[:-1]),  # the last exit takes all remaining images
            accuracy=percent / 100,
            mean_macs=gmacs * 1e9,
        )
        for number, (row, gmacs, percent) in enumerate(
            zip(thresholds.tolist(), *outcomes.tolist(), strict=True), start=1
        )
    )


def stated_exits(checkpoint: Checkpoint, num_exits: int) -> dict[str, Any]:
    """Accuracy and cost of every exit as stored in the file; None if absent.

    Raises:
        ConversionError: when there is not one number per exit.
    """
    stated: dict[str, Any] = {
        "note": "figures of the checkpoint's authors, not measured here; their MACs leave resampling out",
        "exit_top1": None,
        "exit_macs": None,
    }
    if "anytime_classification" in checkpoint.extras:
        stated["exit_top1"] = (_table(checkpoint.extras, "anytime_classification", (num_exits,)) / 100).tolist()
    if "flops" in checkpoint.extras:
        stated["exit_macs"] = (_table(checkpoint.extras, "flops", (num_exits,)) * 1e9).tolist()
    return stated


def sensible_default(points: tuple[NamedOperatingPoint, ...]) -> NamedOperatingPoint:
    """The cheapest point within half a percent point of the most accurate."""
    floor = max(point.accuracy for point in points) - _ACCURACY_DROP
    return min((point for point in points if point.accuracy >= floor), key=lambda point: point.mean_macs)


def _table(extras: dict[str, Any], key: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers of the expected shape as float64; -1 stands for any length.

    All are finite; only the last column of the thresholds may be negative.
    """
    try:
        table = torch.as_tensor(extras[key], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConversionError(
            f"{key}: expected numbers of shape {list(shape)}, found something else: {error}"
        ) from error
    found = tuple(table.shape)
    if len(found) != len(shape) or any(want not in (-1, have) for want, have in zip(shape, found, strict=True)):
        raise ConversionError(f"{key}: expected numbers of shape {list(shape)}, found {list(found)}")
    judged = table[:, :-1] if key == "dynamic_threshold" else table
    if not table.isfinite().all() or (judged < 0).any():
        raise ConversionError(f"{key}: expected finite numbers from 0, found {table.min():g} to {table.max():g}")
    return table
