"""From logits on held-out images to an operating point: temperatures, calibration table, default thresholds.

Shapes: E exits, N images, K classes.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.cascade import Cascade
from models.config import CascadeConfig
from models.look import look_at
from models.macs import stage_macs
from weights.calibration.logit_reuse import fit_shares, set_shares, shares_of, with_shares
from weights.calibration.solver import Solution, Solver
from weights.calibration.table import (
    CalibrationTable,
    calibration_error_by_chance,
    calibration_table,
    expected_calibration_error,
    fit_temperature,
)
from weights.calibration.thresholds import Floats, Outcome, shared_threshold, simulate
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing, centre_crop, normalise

LabelledLogits = tuple[Floats, npt.NDArray[np.int64]]
"""[E, N, K] and [N]"""

DEFAULT_ACCURACY_DROP = 0.005
"""The default operating point stays within half a point of the full cascade."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        temperatures: one per exit.
        table: confidences after temperature, and correctness.
        default: the fewest MACs within the allowed drop.
    """

    temperatures: tuple[float, ...]
    table: CalibrationTable
    default: Solution


def cumulative_macs(architecture: CascadeConfig) -> tuple[int, ...]:
    """MACs of a walk that ends at each exit."""
    return tuple(accumulate(macs.total for macs in stage_macs(architecture)))


def calibrate(
    logits_ENK: Floats,
    labels_N: npt.NDArray[np.int64],
    architecture: CascadeConfig,
    accuracy_drop: float = DEFAULT_ACCURACY_DROP,
) -> Calibration:
    """Fit temperatures, then the cheapest thresholds within `accuracy_drop` of the full cascade.

    A negative drop asks for more accuracy than the last exit has; an earlier exit may have it.

    Raises:
        InfeasibleTargetError: for a negative drop that nothing reaches.
    """
    temperatures = tuple(fit_temperature(exit_logits, labels_N) for exit_logits in logits_ENK)
    table = calibration_table(logits_ENK, labels_N, temperatures)
    walk = cumulative_macs(architecture)
    # The baseline is among the candidates, so the default is never worse on these images.
    drop = max(0.0, accuracy_drop)
    shared = shared_threshold(table.confidence_EN, table.correct_EN, walk, accuracy_drop=drop)
    solver = Solver(table.confidence_EN, table.correct_EN, walk, include=[shared])
    return Calibration(temperatures, table, solver.for_accuracy_drop(accuracy_drop))


@dataclass(frozen=True, slots=True)
class Judgement:
    """How good a calibrated cascade is on images that nothing was fitted on.

    Attributes:
        exit_accuracy: accuracy if every image left at this exit, [E].
        calibration_error: expected calibration error of each exit, [E].
        calibration_error_uncalibrated: the same with all temperatures 1, [E].
        calibration_error_by_chance: its expectation for this number of images if every confidence were right, [E].
        default: accuracy, mean MACs and exit shares of the default thresholds.
    """

    exit_accuracy: tuple[float, ...]
    calibration_error: tuple[float, ...]
    calibration_error_uncalibrated: tuple[float, ...]
    calibration_error_by_chance: tuple[float, ...]
    default: Outcome


def judge(
    logits_ENK: Floats,
    labels_N: npt.NDArray[np.int64],
    architecture: CascadeConfig,
    temperatures: tuple[float, ...],
    thresholds: tuple[float, ...],
) -> Judgement:
    """Accuracy, calibration error and cost of given temperatures and thresholds."""
    table = calibration_table(logits_ENK, labels_N, temperatures)
    raw = calibration_table(logits_ENK, labels_N, (1.0,) * len(logits_ENK))

    def errors(of: CalibrationTable) -> tuple[float, ...]:
        return tuple(map(expected_calibration_error, of.confidence_EN, of.correct_EN))

    return Judgement(
        exit_accuracy=tuple(table.correct_EN.mean(axis=1).tolist()),
        calibration_error=errors(table),
        calibration_error_uncalibrated=errors(raw),
        calibration_error_by_chance=tuple(map(calibration_error_by_chance, table.confidence_EN)),
        default=simulate(table.confidence_EN, table.correct_EN, cumulative_macs(architecture), thresholds),
    )


def calibrate_and_judge(
    cascade: Cascade, seen: LabelledLogits, unseen: LabelledLogits, accuracy_drop: float = DEFAULT_ACCURACY_DROP
) -> tuple[Calibration, Judgement]:
    """`calibrate` on the seen images and `judge` on the unseen ones.

    Where exits reuse logits, their shares are set first.

    Args:
        cascade: the cascade that computed the logits; its logit shares are changed.

    Raises:
        InfeasibleTargetError: as `calibrate`.
    """
    if cascade.config.logit_reuse:
        old = shares_of(cascade)
        new, seen_ENK = fit_shares(*seen, old)
        seen, unseen = (seen_ENK, seen[1]), (with_shares(unseen[0], old, new), unseen[1])
        set_shares(cascade, new)
    fitted = calibrate(*seen, cascade.config, accuracy_drop)
    return fitted, judge(*unseen, cascade.config, fitted.temperatures, fitted.default.thresholds)


@torch.inference_mode()
def held_out_logits(
    cascade: Cascade,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 256,
    progress: Any = None,
) -> npt.NDArray[np.float32]:
    """Logits of all exits on the cascade's device; images are downscaled as in the service.

    Args:
        progress: called with the number of images done after every batch.

    Shape: -> [E, N, K]
    """
    cascade.eval()
    device = next(cascade.parameters()).device
    batches = []
    for start in range(0, len(images), batch_size):
        pixels = torch.from_numpy(images.images[start : start + batch_size]).to(device)
        pixels, state, logits = centre_crop(pixels, preprocessing.crop_px), None, []
        for stage in range(cascade.config.num_stages):
            looks = look_at(pixels, cascade.config.side_px(stage))
            output = cascade.forward_stage(stage, normalise(looks, preprocessing.mean, preprocessing.std), state)
            logits.append(output.logits)
            state = output.state
        batches.append(torch.stack([exit_logits.float() for exit_logits in logits]).cpu())
        if progress is not None:
            progress(min(start + batch_size, len(images)))
    stacked: npt.NDArray[np.float32] = torch.cat(batches, dim=1).numpy()
    return stacked
