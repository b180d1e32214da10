"""A file's format, and its bytes reduced to what the first image's pixels need."""

from weights.image_files import bmp, gif, jpeg, png, tiff, webp
from weights.image_files.errors import UnreadableImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The accepted formats; no other decoder reads a client's bytes."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"})
"""File name suffixes of these formats, in lower case."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def reduce_file(data: bytes, *, max_pixels: int) -> tuple[str, bytes]:
    """The format by a file's first bytes, and the reduced file for its decoder.

    Raises:
        ImageTooLargeError: more pixels than `max_pixels`, or more parts than any ordinary file has.
        UnreadableImageError: it has none of `FORMATS`, or ends within its headers.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", jpeg.reduced(data)
    if data.startswith(png.SIGNATURE):
        return "PNG", png.reduced(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        webp.check(data, max_pixels=max_pixels)
        return "WEBP", data
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", gif.reduced(data)
    if data.startswith(b"BM"):
        bmp.check(data)
        return "BMP", data
    if data.startswith(_TIFF_STARTS):
        return "TIFF", tiff.reduced(data, max_pixels=max_pixels)
    raise UnreadableImageError(f"not an image; accepted are {', '.join(FORMATS)}")
