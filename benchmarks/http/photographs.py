"""Real images as JPEG files for the clients."""

from collections.abc import Sequence

from PIL import Image

from service.capacity.sample_images import SIZES_PX, encoded_jpeg
from service.engine.task import Pixels


def jpegs_of(images: Sequence[Pixels], size: str) -> list[bytes]:
    """JPEG files of these images at a size of `SIZES_PX`; they leave a cascade at realistic stages."""
    whole = (Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in images)
    return [encoded_jpeg(image.resize(SIZES_PX[size], Image.Resampling.BICUBIC)) for image in whole]
