"""The images of a benchmark and their exits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from service.engine.interfaces import Runner
from service.engine.operating import parse_thresholds
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


def chosen_thresholds(stored: StoredModel, text: str | None) -> tuple[float, ...]:
    """The thresholds in a user's text; the model's own for None.

    Raises:
        InvalidParameterError: when they do not fit the model.
    """
    if text is None:
        return stored.manifest.thresholds
    try:
        numbers = [float(item) for item in text.split(",")]
    except ValueError as error:
        raise InvalidParameterError(f"thresholds: {text[:100]!r} is not a number or numbers with commas") from error
    return parse_thresholds(numbers if "," in text else numbers[0], stored.manifest.architecture.num_stages)


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
        images=_random_images(picked, stored.manifest.architecture.image_size),
        thresholds=thresholds,
        policy=_policy((0.5,) * len(thresholds)),
        replayed=True,
    )


def _random_images(exits: npt.NDArray[np.int64], side: int) -> list[Pixels]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (len(exits), 3, side, side), dtype=np.uint8)
    images[:, 0, 0, 0] = generator.permutation(exits)
    return list(images)


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
