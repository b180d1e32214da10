"""From encoded bytes to the pixels a model reads, under limits a client cannot get around."""

from collections.abc import Sequence

from PIL import Image

from service.engine.task import Pixels
from service.errors import TooLargeError, UndecodableImageError
from weights.image_files.decode import decode
from weights.image_files.errors import ImageTooLargeError, UnreadableImageError
from weights.image_files.reduce import FORMATS
from weights.preprocessing import Preprocessing

__all__ = ["FORMATS", "ImageDecoder"]

# What decodes in about a millisecond: handing it to another thread and back would take longer.
_THUMBNAIL_BYTES = 16_384
_THUMBNAIL_PIXELS = 128 * 128
# The decoders of the others do part of their work in Python.
_THUMBNAIL_FORMATS = ("JPEG", "PNG", "WEBP")

# A phone's photo and a 4K screen's picture are below it. One thread decodes what is above, one image after the other.
_ORDINARY_PIXELS = 16_000_000


class ImageDecoder:
    """Decodes one image completely and brings it into a model's input format. Thread-safe.

    Attributes:
        max_bytes: limit on the encoded size.
        max_pixels: limit on width x height before resizing.
    """

    def __init__(self, preprocessing: Preprocessing, *, max_bytes: int, max_pixels: int) -> None:
        self.max_bytes = max_bytes
        self.max_pixels = max_pixels
        self._preprocessing = preprocessing
        # Pillow imports its decoders at the first image; no request should wait for that.
        Image.init()

    def decode_small(self, data: bytes) -> Pixels | None:
        """`decode`, where nothing else can run meanwhile: None for what might take longer than a thumbnail.

        Raises:
            UndecodableImageError: as `decode`.
        """
        return self._decode(data, _THUMBNAIL_PIXELS, _THUMBNAIL_FORMATS) if len(data) <= _THUMBNAIL_BYTES else None

    def decode_ordinary(self, data: bytes) -> Pixels | None:
        """`decode`, where others wait: None for what takes so much time and memory that it should be done alone.

        Raises:
            TooLargeError: as `decode`.
            UndecodableImageError: as `decode`.
        """
        return self._decode(data, _ORDINARY_PIXELS, FORMATS)

    def decode(self, data: bytes) -> Pixels:
        """Decode `data` and preprocess the result; of several frames or pages, the first.

        Raises:
            TooLargeError: more bytes or pixels than allowed, which is known before decoding, or than memory holds.
            UndecodableImageError: not a complete image in one of `FORMATS`.
        """
        pixels = self._decode(data, None, FORMATS)
        assert pixels is not None, "more pixels than allowed are refused, not left"
        return pixels

    def _decode(self, data: bytes, up_to_pixels: int | None, formats: Sequence[str]) -> Pixels | None:
        if len(data) > self.max_bytes:
            raise TooLargeError(f"the image has {len(data)} bytes; the limit is {self.max_bytes}")
        try:
            decoded = decode(
                data, self._preprocessing, max_pixels=self.max_pixels, up_to_pixels=up_to_pixels, formats=formats
            )
        except ImageTooLargeError as error:
            raise TooLargeError(str(error)) from error
        except UnreadableImageError as error:
            raise UndecodableImageError(str(error)) from error
        return None if decoded is None else decoded.pixels
