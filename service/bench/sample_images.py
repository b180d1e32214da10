"""Photographs nobody took: gradients and noise of all sizes, so that a JPEG of them is as large as a real one."""

from io import BytesIO

import numpy as np
from PIL import Image

SIZES_PX = {"small": (64, 64), "large": (500, 375)}
"""Width and height by name."""

_QUALITY = 90
_OCTAVES = (3, 7, 17, 41, 101)
_GRAIN = 6.0


def sample_jpegs(size: str, count: int) -> list[bytes]:
    """Seeded JPEG files, all different."""
    generator = np.random.default_rng(0)
    return [_jpeg(generator, *SIZES_PX[size]) for _ in range(count)]


def _jpeg(generator: np.random.Generator, width: int, height: int) -> bytes:
    pixels = np.full((height, width, 3), 128.0)
    # As in photographs, the finer the detail, the fainter.
    for cells in _OCTAVES:
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layer = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels += (layer - 128) * (3 / cells) ** 0.6
    pixels += generator.normal(0, _GRAIN, pixels.shape)
    buffer = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
