"""The images of a benchmark and their exits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.engine.task import Pixels, StagePrediction, Task
from service.errors import InvalidParameterError
from weights.calibration.held_out import held_out
from weights.calibration.thresholds import exit_stages
from weights.data import load_images
from weights.preprocessing import centre_crop
from weights.store import StoredModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Images and their exit rule.

    Attributes:
        thresholds: the operating point to measure.
        policy: the exit rule; for replayed exits it only separates confidence 1 from 0.
        replayed: whether `ReplayedExits` sets the exits.
    """

    images: Sequence[Pixels]
    thresholds: tuple[float, ...]
    policy: Policy
    replayed: bool


def held_out_workload(stored: StoredModel, data: Sequence[Path], count: int, thresholds: tuple[float, ...]) -> Workload:
    """Real images that neither the weights nor the thresholds have seen, in a seeded order.

    Raises:
        DataError: when the data cannot be used or has other classes.
        InvalidParameterError: when fewer images are held out.
    """
    preprocessing = stored.manifest.preprocessing
    unseen = held_out(stored.manifest, data, load_images(data, preprocessing)).test
    if count > len(unseen):
        raise InvalidParameterError(f"{count} images asked for; {len(unseen)} are held out")
    rows = np.random.default_rng(0).permutation(len(unseen))[:count]
    images = centre_crop(torch.from_numpy(unseen.images[rows]), preprocessing.crop_px).contiguous().numpy()
    return Workload(images=list(images), thresholds=thresholds, policy=_policy(thresholds), replayed=False)


def replayed_workload(stored: StoredModel, count: int, thresholds: tuple[float, ...]) -> Workload:
    """Random images with the exit shares of the calibration images at these thresholds.

    Raises:
        InvalidParameterError: the model has no calibration table.
    """
    if stored.calibration is None:
        raise InvalidParameterError("the model has no calibration table to take exit shares from; give --data")
    exits = np.sort(exit_stages(stored.calibration.confidence_EN, thresholds))
    # Evenly spaced in the sorted exits, so that the shares hold for any count.
    picked = exits[np.arange(count) * len(exits) // count]
    return Workload(
        images=_images_of(picked, stored.manifest.architecture.image_size),
        thresholds=thresholds,
        policy=_policy((0.5,) * len(thresholds)),
        replayed=True,
    )


def random_images(count: int, side: int) -> list[Pixels]:
    """Images of noise, the same in every call."""
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8))


def _images_of(exits: npt.NDArray[np.int64], side: int) -> list[Pixels]:
    images = random_images(len(exits), side)
    for image, stage in zip(images, np.random.default_rng(1).permutation(exits), strict=True):
        image[0, 0, 0] = stage
    return images


def _policy(thresholds: tuple[float, ...]) -> Policy:
    return Policy(thresholds=thresholds, config_version=1, max_stage=len(thresholds), top_k=1)


class ReplayedExits:
    """A runner that computes all stages but sets confidences: 1 from the stage in an image's first byte on, else 0."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.stage_macs, self.baseline_macs, self.dtype = runner.stage_macs, runner.baseline_macs, runner.dtype
        self.warm_up, self.keep, self.release = runner.warm_up, runner.keep, runner.release

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Compute `stage` for these tasks; see `Runner.run`."""
        return [
            replace(prediction, probs=(float(stage >= task.pixels[0, 0, 0]), *prediction.probs[1:]))
            for task, prediction in zip(tasks, self._runner.run(stage, tasks), strict=True)
        ]
