"""A tiny model folder with a calibration table, whose images spread over all exits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cascades import TINY, randomised
from manifests import manifest_of

from weights.calibration.table import CalibrationTable
from weights.store import save

EXITS = (0, 0, 0, 0, 1, 1, 2, 3)
"""Where the calibration images leave at thresholds of 0.5."""


def save_calibrated(folder: Path, *, seed: int = 0, exits: Sequence[int] = EXITS, sure: float = 0.9) -> Path:
    """Write the model folder and return it.

    Args:
        seed: of the weights.
        exits: where the calibration images leave, and from where on they are answered right.
        sure: the confidence that they leave with.
    """
    manifest = manifest_of(TINY, thresholds=(0.5, 0.5, 0.5))
    confidence = np.array([[sure if stage >= left else 0.1 for left in exits] for stage in range(4)], dtype=np.float32)
    save(folder, randomised(TINY, seed=seed), manifest, "# tiny\n", CalibrationTable(confidence, confidence > 0.5))
    return folder
