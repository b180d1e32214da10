"""BMP: refuses files that take too long to decode."""

from weights.image_files.errors import ImageTooLargeError, UnreadableImageError

MAX_RUN_LENGTH_PIXELS = 2**20
MAX_RUN_LENGTH_BYTES = 2**21
"""Run-length encoding is decoded in Python, byte by byte."""

_HEADER = 14
_RUN_LENGTHS = (1, 2)


def check(data: bytes) -> None:
    """Refuse a file that would take too long for an image of its size.

    Raises:
        ImageTooLargeError: run-length encoded, and too large for it.
        UnreadableImageError: a palette with more colours than its pixels can address.
    """
    if int.from_bytes(data[_HEADER : _HEADER + 4], "little") < 40:
        return
    # A negative height means that rows are stored from top to bottom.
    width = int.from_bytes(data[18:22], "little")
    height = abs(int.from_bytes(data[22:26], "little", signed=True))
    bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    colours = int.from_bytes(data[46:50], "little")
    if bits <= 8 and colours > 1 << bits:
        raise UnreadableImageError(f"the BMP has {colours} colours; {bits} bits tell {1 << bits} apart")
    if compression not in _RUN_LENGTHS:
        return
    if width * height > MAX_RUN_LENGTH_PIXELS:
        raise ImageTooLargeError(
            f"the run-length encoded BMP has {width} x {height} pixels; the limit is {MAX_RUN_LENGTH_PIXELS}"
        )
    if len(data) > MAX_RUN_LENGTH_BYTES:
        raise ImageTooLargeError(
            f"the run-length encoded BMP has {len(data)} bytes; the limit is {MAX_RUN_LENGTH_BYTES}"
        )
