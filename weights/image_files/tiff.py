"""TIFF: keeps only the tags needed to decode the first picture, within the limits for its size."""

import struct
from dataclasses import dataclass
from math import ceil

from weights.image_files.errors import ImageTooLargeError, UnreadableImageError

COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
}
"""Accepted compressions. Fax compressions are not: on damaged files their decoder writes to stderr for each row."""

MAX_SAMPLES = 6
"""The most samples per pixel; CMYK with alpha has five."""

MAX_TAGS = 4096
MAX_STRIPS = 65_536
"""The most strips or tiles; Pillow makes a Python object of each before it decodes a pixel."""

_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANES = 256, 257, 259, 277, 278, 284
_STRIPS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 273, 322, 323, 324
_GEOMETRY = (_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT)
# Also: sample sizes and formats, photometry, fill order, orientation, byte counts, predictor, palette,
# inks, JPEG tables, YCbCr.
_KEPT_TAGS = {*_GEOMETRY, _STRIPS, _TILES, 258, 262, 266, 274, 279, 317, 320, 325, 332, 338, 339, 347}
_KEPT_TAGS |= {529, 530, 531, 532}
_UNSIGNED = {3: "H", 4: "L", 16: "Q"}
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tag; `value` is the value itself if it fits, else its offset in the file."""

    tag: int
    kind: int
    count: int
    value: bytes


def reduced(data: bytes, *, max_pixels: int) -> bytes:
    """The file with a single directory that holds only the kept tags of the first picture.

    Raises:
        ImageTooLargeError: more tags or strips than the limit, or tiles of more than `max_pixels`.
        UnreadableImageError: a compression that is not accepted, or an invalid directory.
    """
    endian = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    number, entry = (f"{endian}Q", f"{endian}HHQ8s") if big else (f"{endian}L", f"{endian}HHL4s")
    count = f"{endian}Q" if big else f"{endian}H"
    start = 8 if big else 4
    try:
        (position,) = struct.unpack_from(number, data, start)
        (num_tags,) = struct.unpack_from(count, data, position)
        if num_tags > MAX_TAGS:
            raise ImageTooLargeError(f"the TIFF has {num_tags} tags; the limit is {MAX_TAGS}")
        position += struct.calcsize(count)
        step = struct.calcsize(entry)
        entries = [_Entry(*struct.unpack_from(entry, data, position + index * step)) for index in range(num_tags)]
    except (struct.error, OverflowError) as error:
        raise UnreadableImageError("the TIFF ends within its directory") from error
    # Of several tags with one number the first is valid.
    kept = {item.tag: item for item in reversed(entries) if item.tag in _KEPT_TAGS}
    _check_sizes(kept)
    _check_geometry(kept, endian, max_pixels)
    directory = [struct.pack(count, len(kept))]
    directory += [struct.pack(entry, item.tag, item.kind, item.count, item.value) for _, item in sorted(kept.items())]
    directory.append(struct.pack(number, 0))
    padding = bytes(-len(data) % 8)
    moved = struct.pack(number, len(data) + len(padding))
    return b"".join((data[:start], moved, data[start + len(moved) :], padding, *directory))


def _check_sizes(kept: dict[int, _Entry]) -> None:
    for item in kept.values():
        if item.kind not in _VALUE_BYTES:
            raise UnreadableImageError(f"the TIFF's tag {item.tag} has the unknown type {item.kind}")
        if item.count > MAX_STRIPS:
            raise ImageTooLargeError(f"the TIFF's tag {item.tag} has {item.count} values; the limit is {MAX_STRIPS}")


def _check_geometry(kept: dict[int, _Entry], endian: str, max_pixels: int) -> None:
    values = {tag: _number(kept[tag], endian) for tag in _GEOMETRY if tag in kept}
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if not width or not height:
        raise UnreadableImageError("the TIFF does not say how large it is")
    if (compression := values.get(_COMPRESSION, 1)) not in COMPRESSIONS:
        names = ", ".join(sorted(set(COMPRESSIONS.values())))
        raise UnreadableImageError(f"the TIFF's compression {compression} is not accepted; accepted are {names}")
    if (samples := values.get(_SAMPLES, 1)) > MAX_SAMPLES:
        raise UnreadableImageError(f"the TIFF has {samples} samples per pixel; the limit is {MAX_SAMPLES}")
    planes = samples if values.get(_PLANES, 1) == 2 else 1
    if _STRIPS in kept:
        rows = max(1, min(values.get(_ROWS, height), height))
        _check_count(kept[_STRIPS], ceil(height / rows) * planes, "strips")
    if {_TILES, _TILE_WIDTH, _TILE_HEIGHT} & kept.keys():
        tile_width, tile_height = values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)
        if not tile_width or not tile_height or _TILES not in kept:
            raise UnreadableImageError("the TIFF does not say how large its tiles are, or where")
        # A tile is decoded whole, even if the picture covers a small part of it.
        if tile_width * tile_height > max_pixels:
            raise ImageTooLargeError(
                f"the TIFF's tiles have {tile_width} x {tile_height} pixels; the limit is {max_pixels}"
            )
        _check_count(kept[_TILES], ceil(width / tile_width) * ceil(height / tile_height) * planes, "tiles")


def _check_count(offsets: _Entry, needed: int, name: str) -> None:
    if offsets.count != needed:
        raise UnreadableImageError(f"the TIFF has {offsets.count} {name}; its picture consists of {needed}")


def _number(item: _Entry, endian: str) -> int:
    form = _UNSIGNED.get(item.kind)
    if form is None or item.count != 1 or struct.calcsize(f"{endian}{form}") > len(item.value):
        raise UnreadableImageError(f"the TIFF's tag {item.tag} is not one number")
    (value,) = struct.unpack_from(f"{endian}{form}", item.value)
    return int(value)
