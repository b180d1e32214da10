"""From a file's bytes to the pixels a model reads; training, the command line and the server use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from weights.image_files.errors import ImageTooLargeError, UnreadableImageError
from weights.image_files.reduce import FORMATS, reduce_file
from weights.preprocessing import Preprocessing

MAX_PIXELS = 50_000_000
"""The usual limit on width x height, before resizing."""

# The most a JPEG's Exif block can have; Pillow reads every entry in Python.
_MAX_EXIF_BYTES = 65_542


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: uint8, [3, crop_px, crop_px].
        shorter_px: the file's own shorter side.
    """

    pixels: npt.NDArray[np.uint8]
    shorter_px: int


def decode(
    data: bytes,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    up_to_pixels: int | None = None,
    formats: Sequence[str] = FORMATS,
) -> Decoded | None:
    """Decode completely and preprocess; of several frames or pages, the first.

    Args:
        up_to_pixels: return None for an image with more pixels that is within `max_pixels`.
        formats: return None for an image of another format.

    Returns:
        None where `up_to_pixels` or `formats` say so.

    Raises:
        ImageTooLargeError: more pixels than `max_pixels`, which is known before decoding, or than memory holds.
        UnreadableImageError: not a complete image in one of `FORMATS`.
    """
    if not data:
        raise UnreadableImageError("the image is empty")
    try:
        image_format, reduced = reduce_file(data, max_pixels=max_pixels)
        if image_format not in formats:
            return None
        with Image.open(BytesIO(reduced), formats=[image_format]) as image:
            num_pixels = image.width * image.height
            if num_pixels > max_pixels:
                raise ImageTooLargeError(
                    f"the image has {image.width} x {image.height} pixels; the limit is {max_pixels}"
                )
            if up_to_pixels is not None and num_pixels > up_to_pixels:
                return None
            shorter_px = min(image.size)
            _bound(image, len(reduced))
            return Decoded(preprocessing.apply(image), shorter_px)
    except (ImageTooLargeError, UnreadableImageError):
        raise
    except MemoryError as error:
        raise ImageTooLargeError("the image does not fit into the memory that is left") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageTooLargeError(f"the image has more pixels than the limit of {max_pixels}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"the {image_format} has a header that cannot be read") from error
    # Pillow's decoders raise anything from struct.error to IndexError on damaged data.
    except Exception as error:
        raise UnreadableImageError(f"the image cannot be decoded: {error}") from error


def _bound(image: ImageFile.ImageFile, num_bytes: int) -> None:
    """Prevent quadratic work in the decoder."""
    if len(image.tile) == 1:
        # Pillow collects a row in small pieces, which takes quadratic time for a long row.
        image.decodermaxblock = max(image.decodermaxblock, num_bytes)
    if len(image.info.get("exif", b"")) > _MAX_EXIF_BYTES:
        del image.info["exif"]
