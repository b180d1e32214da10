"""GIF: keeps the first frame and what follows; before it, only the transparent colour."""

from weights.image_files.errors import ImageTooLargeError, UnreadableImageError

MAX_BLOCKS = 65_536
"""The most blocks before the first frame; each has up to 255 bytes."""

_HEADER_BYTES = 13
_FRAME, _EXTENSION, _CONTROL, _END = 0x2C, 0x21, 0xF9, 0x3B
_TRANSPARENT = 1


def reduced(data: bytes) -> bytes:
    """The file without comments, application data and the disposal method of the first frame.

    Raises:
        ImageTooLargeError: more blocks before the first frame than the limit.
        UnreadableImageError: it has no frame.
    """
    flags = data[10] if len(data) >= _HEADER_BYTES else 0
    position = start = _HEADER_BYTES + ((6 << (flags & 7)) if flags & 0x80 else 0)
    control = b""
    in_extension = False
    for _ in range(MAX_BLOCKS):
        kind = data[position] if position < len(data) else _END
        if in_extension:
            in_extension = kind != 0 and position < len(data)
            position += 1 + kind
        elif kind == _FRAME:
            return data[:start] + control + data[position:]
        elif kind == _EXTENSION:
            if data[position + 1 : position + 3] == bytes((_CONTROL, 4)):
                control = _control(data[position : position + 8])
            in_extension = True
            position += 2
        elif kind == _END:
            raise UnreadableImageError("the GIF has no frame")
        else:
            position += 1
    raise ImageTooLargeError(f"the GIF has more than {MAX_BLOCKS} blocks before its first frame")


def _control(extension: bytes) -> bytes:
    """The extension without its disposal method, for which a decoder would keep a second picture."""
    return extension[:3] + bytes((extension[3] & _TRANSPARENT,)) + extension[4:] if len(extension) == 8 else b""
