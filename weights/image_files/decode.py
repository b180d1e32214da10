"""From a file's bytes to the pixels a model reads: one way for training, the command line and the server."""

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

# As much as a JPEG's can have; each of its entries is read in Python.
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
        up_to_pixels: leave an image with more pixels, if it is within `max_pixels`, to another call.
        formats: leave an image of another format to another call.

    Returns:
        None for what is left to another call.

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
    """Keep the decoder from work that grows with the square of the file."""
    if len(image.tile) == 1:
        # Pillow appends piece to piece until there is a whole row: the square of a long row's length.
        image.decodermaxblock = max(image.decodermaxblock, num_bytes)
    if len(image.info.get("exif", b"")) > _MAX_EXIF_BYTES:
        del image.info["exif"]
