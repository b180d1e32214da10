"""What a load generator sends: real images, or photographs nobody took.

Those are gradients and noise of all sizes, so that a JPEG of them is as large as a real one; a model is seldom sure
of them.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from service.engine.task import Pixels

SIZES_PX = {"small": (64, 64), "large": (500, 375)}
"""Width and height by name."""

_QUALITY = 90
_OCTAVES = (3, 7, 17, 41, 101)
_GRAIN = 6.0


def sample_jpegs(size: str, count: int) -> list[bytes]:
    """Seeded JPEG files, all different."""
    generator = np.random.default_rng(0)
    return [_encoded(_made_up(generator, *SIZES_PX[size])) for _ in range(count)]


def jpegs_of(images: Sequence[Pixels], size: str) -> list[bytes]:
    """Real images as JPEG files of this size, so that they leave a cascade where real ones do."""
    whole = (Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in images)
    return [_encoded(image.resize(SIZES_PX[size], Image.Resampling.BICUBIC)) for image in whole]


def _made_up(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    pixels = np.full((height, width, 3), 128.0)
    # As in photographs, the finer the detail, the fainter.
    for cells in _OCTAVES:
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layer = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels += (layer - 128) * (3 / cells) ** 0.6
    pixels += generator.normal(0, _GRAIN, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
