"""Chooses the images on which a trained model may be calibrated and judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.data import DataError, LabelledImages
from weights.manifest import Manifest
from weights.splitting import BY_CONTENT, Split, draw, split_by_position

CALIBRATED_ON, FRESH = "calibrated_on", "fresh"
"""Key and value in a provenance's `split` for a model that was calibrated on fresh images."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Images a model was not trained on, and how many were left out.

    Attributes:
        calibration: to choose temperatures and thresholds on.
        test: to judge on.
        num_training: number of images left out because they belong to the training part.
        num_near_duplicates: number left out as near-duplicates of an image of another part.
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
        """The provenance's `split` for a model calibrated on these images."""
        kept = {key: value for key, value in split.items() if key != CALIBRATED_ON}
        kept |= {"calibration": len(self.calibration), "test": len(self.test)}
        if fresh or split.get("by") == BY_CONTENT:
            kept["near_duplicates"] = self.num_near_duplicates
        return kept | {CALIBRATED_ON: FRESH} if fresh else kept


def held_out(manifest: Manifest, paths: Sequence[Path], data: LabelledImages, *, fresh: bool = False) -> HeldOut:
    """The images to fit on and the images to judge on.

    For a model that was split by content: the images drawn for its held-out parts, from any file. Fresh images, and
    for older models images of other files, are split into two halves.

    Args:
        paths: where the data was read; older models recognise their training data by these names.
        fresh: whether the model was trained on none of the images.

    Raises:
        DataError: when the data has other classes than the model, no image is held out, or it is unknown which images
            are.
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


def _by_position(provenance: dict[str, Any], paths: Sequence[Path], data: LabelledImages) -> Split:
    """For an older model: the parts of its own split in its training files; two halves of other files."""
    if provenance.get("data") == ", ".join(path.name for path in paths):
        trained_with = sum(provenance["split"][part] for part in ("train", "calibration", "test"))
        if len(data) != trained_with:  # the weights may have seen the held-out parts of another split
            raise DataError(
                f"the model was made from {trained_with} images of {provenance['data']}, this has {len(data)}: "
                "which of them are held out is not known"
            )
        return split_by_position(data.labels, provenance["holdout"], provenance["recipe"]["seed"])
    halves = split_by_position(data.labels, 0.5, seed=0)
    none = np.empty(0, dtype=np.int64)
    return Split(none, halves.train, np.concatenate([halves.calibration, halves.test]), none)
