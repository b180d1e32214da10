"""WebP: checks the size before the decoder allocates memory for it twice."""

from weights.image_files.errors import ImageTooLargeError


def check(data: bytes, *, max_pixels: int) -> None:
    """Refuse a canvas that is too large.

    Raises:
        ImageTooLargeError: more than `max_pixels`.
    """
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    elif kind == b"VP8L":
        sides = _number(data, 21, 4)
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF
    if width * height > max_pixels:
        raise ImageTooLargeError(f"the image has {width} x {height} pixels; the limit is {max_pixels}")


def _number(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "little")
