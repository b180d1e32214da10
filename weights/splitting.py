"""Splits images by content and seed into training, calibration and test parts."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weights.data import DataError
from weights.near_duplicates import near_duplicates
from weights.thumbnails import fingerprints, thumbnails

BY_CONTENT = "content"
"""The value of `split.by` in a model's provenance."""

_USUAL_HOLDOUT, _MAX_HOLDOUT, _ENOUGH_HELD_OUT = 0.1, 0.3, 40

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of disjoint parts, in ascending order.

    Attributes:
        train: images for the weights.
        calibration: images for temperatures and thresholds.
        test: images for the reported accuracy.
        near_duplicates: drawn for calibration or test, but near-duplicates of an image of another part; unused.
    """

    train: _Rows
    calibration: _Rows
    test: _Rows
    near_duplicates: _Rows

    def provenance(self, holdout: float, seed: int) -> dict[str, Any]:
        """The `split` entry of a model's provenance: how to repeat the split, and the size of each part."""
        return {
            "by": BY_CONTENT,
            "holdout": holdout,
            "seed": seed,
            "train": len(self.train),
            "calibration": len(self.calibration),
            "test": len(self.test),
            "near_duplicates": len(self.near_duplicates),
        }


def default_holdout(num_images: int) -> float:
    """The default held-out share: a tenth; for few images up to three tenths, so that about 40 are held out."""
    return min(_MAX_HOLDOUT, max(_USUAL_HOLDOUT, _ENOUGH_HELD_OUT / max(num_images, 1)))


def draw(images: npt.NDArray[np.uint8], holdout: float, seed: int) -> Split:
    """Assign each image to a part; `holdout` is halved into calibration and test. A part may be empty.

    The part an image is drawn for depends on its fingerprint and the seed: not on names, order or the other images.
    Calibration images that are near-duplicates of a given training image are left out, and so are test images that are
    near-duplicates of a given training or calibration image.

    Shape: images [N, 3, R, R]
    """
    small = thumbnails(images)
    shares = _shares(fingerprints(small), seed)
    train = np.flatnonzero(shares >= holdout)
    calibration = np.flatnonzero(shares < holdout / 2)
    test = np.flatnonzero((shares >= holdout / 2) & (shares < holdout))
    held_out = np.concatenate([calibration, test])
    near = near_duplicates(small[held_out], small[train])
    near[len(calibration) :] |= near_duplicates(small[test], small[calibration])
    kept = ~near
    return Split(
        train=train,
        calibration=calibration[kept[: len(calibration)]],
        test=test[kept[len(calibration) :]],
        near_duplicates=np.sort(held_out[near]),
    )


def split(images: npt.NDArray[np.uint8], holdout: float, seed: int) -> Split:
    """As `draw`, for training: every part has at least one image.

    Shape: images [N, 3, R, R]

    Raises:
        DataError: when `holdout` is not inside (0, 1) or a part is empty.
    """
    if not 0 < holdout < 1:
        raise DataError(f"holdout must be between 0 and 1, got {holdout}")
    parts = draw(images, holdout, seed)
    for name in ("train", "calibration", "test"):
        if not len(getattr(parts, name)):
            raise DataError(
                f"holdout {holdout} of {len(images)} images, {len(parts.near_duplicates)} of them left out as "
                f"near-duplicates, leaves the {name} part empty: use more images, another holdout or another seed"
            )
    return parts


def split_by_position(labels: npt.NDArray[np.int64], holdout: float, seed: int) -> Split:
    """The split of older models: by row number and seed, even over classes; `holdout` is halved.

    Raises:
        DataError: when `holdout` is not inside (0, 1) or a part is empty.
    """
    if not 0 < holdout < 1:
        raise DataError(f"holdout must be between 0 and 1, got {holdout}")
    generator = np.random.default_rng(seed)
    parts: tuple[list[np.int64], ...] = ([], [], [])
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held_out = round(len(rows) * holdout)
        cuts = (held_out // 2, held_out)
        for part, chunk in zip(parts, (rows[cuts[1] :], rows[: cuts[0]], rows[cuts[0] : cuts[1]]), strict=True):
            part.extend(chunk)
    if not all(parts):
        raise DataError(f"holdout {holdout} of {len(labels)} images leaves a part of the split empty")
    train, calibration, test = (np.sort(np.asarray(part, dtype=np.int64)) for part in parts)
    return Split(train, calibration, test, near_duplicates=np.empty(0, dtype=np.int64))


def _shares(prints: npt.NDArray[np.uint32], seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each fingerprint, drawn with the seed as key."""
    key = str(seed).encode()
    different, inverse = np.unique(prints, return_inverse=True)
    digests = (hashlib.blake2b(value.tobytes(), digest_size=4, key=key).digest() for value in different.astype("<u4"))
    drawn = np.frombuffer(b"".join(digests), dtype="<u4") / 2**32
    chosen: npt.NDArray[np.float64] = drawn[inverse]
    return chosen
