"""Decodes and preprocesses an image under limits on bytes and pixels."""

from collections.abc import Sequence

from PIL import Image

from service.engine.task import Pixels
from service.errors import TooLargeError, UndecodableImageError
from weights.image_files.decode import decode
from weights.image_files.errors import ImageTooLargeError, UnreadableImageError
from weights.image_files.reduce import FORMATS
from weights.preprocessing import Preprocessing

# Limits of an image that decodes in about a millisecond: passing it to another thread and back would take longer.
_THUMBNAIL_BYTES = 16_384
_THUMBNAIL_PIXELS = 128 * 128
# Other formats are decoded partly in Python.
_THUMBNAIL_FORMATS = ("JPEG", "PNG", "WEBP")

# Phone photographs and 4K screenshots are below this limit. A single thread decodes larger images, one by one.
_ORDINARY_PIXELS = 16_000_000


class ImageDecoder:
    """Decodes an image completely and preprocesses it for the model. Thread-safe.

    Attributes:
        max_bytes: limit on the encoded size.
        max_pixels: limit on width x height before resizing.
    """

    def __init__(self, preprocessing: Preprocessing, *, max_bytes: int, max_pixels: int) -> None:
        self.max_bytes = max_bytes
        self.max_pixels = max_pixels
        self._preprocessing = preprocessing
        # Otherwise Pillow imports its decoders in the first request.
        Image.init()

    def decode_small(self, data: bytes) -> Pixels | None:
        """`decode` for use on the event loop; None for an image that may take longer than about a millisecond.

        Raises:
            UndecodableImageError: as `decode`.
        """
        return self._decode(data, _THUMBNAIL_PIXELS, _THUMBNAIL_FORMATS) if len(data) <= _THUMBNAIL_BYTES else None

    def decode_ordinary(self, data: bytes) -> Pixels | None:
        """`decode` for the thread pool; None for an image so large that it should be decoded alone.

        Raises:
            TooLargeError: as `decode`.
            UndecodableImageError: as `decode`.
        """
        return self._decode(data, _ORDINARY_PIXELS, FORMATS)

    def decode(self, data: bytes) -> Pixels:
        """Decode `data` and preprocess the result; of several frames or pages the first one.

        Raises:
            TooLargeError: more bytes or pixels than allowed (checked before decoding), or than memory holds.
            UndecodableImageError: not a complete image in one of `FORMATS`.
        """
        pixels = self._decode(data, None, FORMATS)
        assert pixels is not None, "only a limit on pixels or formats gives None"
        return pixels

    def preprocess(self, image: Image.Image) -> Pixels:
        """Preprocess an image that is decoded already, or that Pillow decodes; it stays as it is.

        Raises:
            TooLargeError: more pixels than allowed.
            UndecodableImageError: its data is damaged.
        """
        if image.width * image.height > self.max_pixels:
            raise TooLargeError(f"the image has {image.width} x {image.height} pixels; the limit is {self.max_pixels}")
        try:
            return self._preprocessing.apply(image.copy())
        except OSError as error:
            raise UndecodableImageError(f"the image cannot be decoded: {error}") from error

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
