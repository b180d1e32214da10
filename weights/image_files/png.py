"""PNG: keeps the chunks of the picture and a small Exif block."""

from weights.image_files.errors import ImageTooLargeError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS = 65_536
"""The most chunks; 512 MB at the usual 8 kB per chunk."""

MAX_EXIF_BYTES = 65_536
"""The most a JPEG's Exif block can have."""

_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"IDAT")


def reduced(data: bytes) -> bytes:
    """The file without texts and profiles, which can inflate a thousandfold, and without further frames.

    Raises:
        ImageTooLargeError: more chunks than the limit.
    """
    kept = [SIGNATURE]
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        end = position + 12 + length
        if kind == b"IEND" or end > len(data):
            # The decoder reports a truncated file.
            kept.append(data[position:end])
            return b"".join(kept)
        if kind in _KEPT_CHUNKS or (kind == b"eXIf" and length <= MAX_EXIF_BYTES):
            kept.append(data[position:end])
        position = end
    raise ImageTooLargeError(f"the PNG has more than {MAX_CHUNKS} chunks")
