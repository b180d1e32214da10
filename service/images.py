"""From encoded bytes to the pixels a model reads, under limits a client cannot get around."""

from io import BytesIO

from PIL import Image, UnidentifiedImageError

from service.engine.task import Pixels
from service.errors import TooLargeError, UndecodableImageError
from weights.preprocessing import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The only formats whose decoders see a client's bytes."""

# What decodes in a fraction of a millisecond: handing it to another thread and back would take longer.
_SMALL_BYTES = 16_384
_SMALL_PIXELS = 128 * 128


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
        return self._decode(data, _SMALL_PIXELS) if len(data) <= _SMALL_BYTES else None

    def decode(self, data: bytes) -> Pixels:
        """Decode `data` and preprocess the result; of an animation, its first frame.

        Raises:
            TooLargeError: more bytes or pixels than allowed, which is known before decoding, or than memory holds.
            UndecodableImageError: not a complete image in one of `FORMATS`.
        """
        pixels = self._decode(data, self.max_pixels)
        assert pixels is not None, "more pixels than allowed are refused, not left"
        return pixels

    def _decode(self, data: bytes, up_to_pixels: int) -> Pixels | None:
        if len(data) > self.max_bytes:
            raise TooLargeError(f"the image has {len(data)} bytes; the limit is {self.max_bytes}")
        if not data:
            raise UndecodableImageError("the image is empty")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                self._check_pixels(image)
                if image.width * image.height > up_to_pixels:
                    return None
                image.load()
                # Transparency is not used, and Pillow warns of a palette that has it.
                image.info.pop("transparency", None)
                return self._preprocessing.apply(image)
        except TooLargeError:
            raise
        except MemoryError as error:
            raise TooLargeError("the image does not fit into the memory that is left") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise TooLargeError(f"the image has more pixels than the limit of {self.max_pixels}") from error
        except UnidentifiedImageError as error:
            raise UndecodableImageError(f"not an image; accepted are {', '.join(FORMATS)}") from error
        # Pillow's decoders raise anything from struct.error to IndexError on damaged data.
        except Exception as error:
            raise UndecodableImageError(f"the image cannot be decoded: {error}") from error

    def _check_pixels(self, image: Image.Image) -> None:
        pixels = image.width * image.height
        if pixels > self.max_pixels:
            raise TooLargeError(f"the image has {image.width} x {image.height} pixels; the limit is {self.max_pixels}")
