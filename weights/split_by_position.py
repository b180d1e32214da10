"""The split of older models, whose provenance does not say that they were split by content."""

import numpy as np
import numpy.typing as npt

from weights.data import DataError
from weights.splitting import Split


def split_by_position(labels: npt.NDArray[np.int64], holdout: float, seed: int) -> Split:
    """A seeded split by row number, even over classes; `holdout` is halved into calibration and test.

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
