"""Which of some images a trained model may be calibrated and judged on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.data import DataError, LabelledImages
from weights.manifest import Manifest
from weights.split_by_position import split_by_position
from weights.splitting import BY_CONTENT, Split, draw

CALIBRATED_ON, FRESH = "calibrated_on", "fresh"
"""Key and value in a provenance's `split`, where the model was calibrated on images it could not have trained on."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Images a model was not trained on, and how many were left out.

    Attributes:
        calibration: to choose temperatures and thresholds on.
        test: to judge on.
        num_training: how many were left out because they belong to the training part.
        num_near_duplicates: how many because they are nearly the same picture as one of another part.
    """

    calibration: LabelledImages
    test: LabelledImages
    num_training: int
    num_near_duplicates: int

    def __str__(self) -> str:
        hint = " (--fresh keeps these, for files the model was not trained on)" if self.num_training else ""
        return (
            f"{len(self.calibration):,} images to calibrate on, {len(self.test):,} to judge on; left out: "
            f"{self.num_near_duplicates:,} near-duplicates, {self.num_training:,} of the training part{hint}"
        )

    def provenance(self, split: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
        """What `split` in the provenance becomes when the model is calibrated on these images."""
        kept = {key: value for key, value in split.items() if key != CALIBRATED_ON}
        kept |= {"calibration": len(self.calibration), "test": len(self.test)}
        if fresh or split.get("by") == BY_CONTENT:
            kept["near_duplicates"] = self.num_near_duplicates
        return kept | {CALIBRATED_ON: FRESH} if fresh else kept


def held_out(manifest: Manifest, paths: Sequence[Path], data: LabelledImages, *, fresh: bool = False) -> HeldOut:
    """The images to fit on and the images to judge on.

    A model that was split by content takes those drawn for its held-out parts, whatever files they come from. Fresh
    images, and for older models those of other files, are two halves.

    Args:
        paths: where the data was read; older models tell by the names whether they were trained from it.
        fresh: whether the model was trained on none of the images.

    Raises:
        DataError: when the data has other classes than the model, none of it is held out, or which is is not known.
    """
    data = data.relabelled(manifest.class_names)
    split = manifest.provenance.get("split", {})
    if fresh:
        parts = draw(data.images, holdout=1.0, seed=0)
    elif split.get("by") == BY_CONTENT:
        parts = draw(data.images, split["holdout"], split["seed"])
    else:
        parts = _by_position(manifest.provenance, paths, data)
    if not len(parts.test):
        raise DataError(
            f"none of the {len(data)} images is left to judge on: {len(parts.train)} belong to the training part and "
            f"{len(parts.near_duplicates)} are near-duplicates. Give more images, or --fresh if the model was not "
            "trained on any of them"
        )
    calibration, test = data.subset(parts.calibration), data.subset(parts.test)
    return HeldOut(calibration, test, len(parts.train), len(parts.near_duplicates))


def held_out_parts(
    manifest: Manifest, paths: Sequence[Path], data: LabelledImages
) -> tuple[LabelledImages, LabelledImages]:
    """The calibration and the test images of `held_out`.

    Raises:
        DataError: as there.
    """
    parts = held_out(manifest, paths, data)
    return parts.calibration, parts.test


def _by_position(provenance: dict[str, Any], paths: Sequence[Path], data: LabelledImages) -> Split:
    """Of the files an older model was trained from, the parts of its own split; of other files, two halves."""
    if provenance.get("data") == ", ".join(path.name for path in paths):
        trained_with = sum(provenance["split"][part] for part in ("train", "calibration", "test"))
        if len(data) != trained_with:  # another split, whose held-out parts the weights may have seen
            raise DataError(
                f"the model was made from {trained_with} images of {provenance['data']}, this has {len(data)}: "
                "which of them are held out is not known"
            )
        return split_by_position(data.labels, provenance["holdout"], provenance["recipe"]["seed"])
    halves = split_by_position(data.labels, 0.5, seed=0)
    none = np.empty(0, dtype=np.int64)
    return Split(none, halves.train, np.concatenate([halves.calibration, halves.test]), none)
