"""Synthetic photographs for load generators.

They are made of gradients and noise at several scales, so that their JPEG files are as large as those of photographs.
Models are seldom confident about them.
"""

from io import BytesIO

import numpy as np
from PIL import Image

SIZES_PX = {"small": (64, 64), "large": (500, 375)}
"""Width and height by name."""

_QUALITY = 90
_OCTAVES = (3, 7, 17, 41, 101)
_GRAIN = 6.0


def sample_jpegs(size: str, count: int) -> list[bytes]:
    """Different JPEG files, the same in every call."""
    generator = np.random.default_rng(0)
    return [encoded_jpeg(_made_up(generator, *SIZES_PX[size])) for _ in range(count)]


def _made_up(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    pixels = np.full((height, width, 3), 128.0)
    # As in photographs, finer detail is fainter.
    for cells in _OCTAVES:
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layer = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels += (layer - 128) * (3 / cells) ** 0.6
    pixels += generator.normal(0, _GRAIN, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded_jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG file."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
