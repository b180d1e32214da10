"""Pictures with large and small structure, for what compares pictures."""

import io

import numpy as np
from PIL import Image


def pictures(count: int, side: int = 48, seed: int = 0) -> np.ndarray:
    """Different random pictures, smooth at large and a little noisy at small: uint8 [count, 3, side, side]."""
    generator = np.random.default_rng(seed)
    images = np.empty((count, 3, side, side), dtype=np.uint8)
    for image in images:
        coarse = generator.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = smooth + generator.normal(0, 4, smooth.shape)
        image[:] = np.clip(noisy, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return images


def recoded(images: np.ndarray, quality: int) -> np.ndarray:
    """The same pictures after JPEG compression."""
    result = np.empty_like(images)
    for row, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "JPEG", quality=quality)
        result[row] = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    return result


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """The same pictures at another size."""
    sized = [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).resize((side, side)) for image in images]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in sized])
