"""Damage to image files: blind, and where their format has its numbers. Case n of a seed is always the same file."""

import random
import struct
import zlib
from dataclasses import dataclass
from functools import cache

from image_corpus import corpus

from service.errors import TooLargeError, UndecodableImageError
from service.images.decoder import ImageDecoder

MAX_BYTES = 65_536
"""Larger files of the corpus show what a size does, which damage does not change."""

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def seeds() -> tuple[bytes, ...]:
    """The corpus' files that damage starts from."""
    return tuple(case.data for case in corpus() if 8 < len(case.data) <= MAX_BYTES)


def damaged(seed: int, number: int) -> bytes:
    """Case `number` of `seed`."""
    generator = random.Random(f"{seed}:{number}")
    data = bytearray(generator.choice(seeds()))
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        generator.choice(_DAMAGES)(generator, data)
    if data[1:4] == b"PNG" and generator.random() < 0.8:
        _mend_checksums(data)
    if data[8:12] == b"WEBP" and generator.random() < 0.5:
        data[4:8] = struct.pack("<L", len(data) - 8)
    return bytes(data[: 2 * MAX_BYTES])


@dataclass(frozen=True, slots=True)
class FuzzedFile:
    """What came of one file."""

    status: int


def decode(decoder: ImageDecoder, data: bytes) -> FuzzedFile:
    """Decode as a request's image is; lets through only what must never be raised."""
    try:
        for attempt in (decoder.decode_small, decoder.decode_ordinary, decoder.decode):
            if (pixels := attempt(data)) is not None:
                assert pixels.shape[0] == 3, pixels.shape
                break
    except UndecodableImageError:
        return FuzzedFile(400)
    except TooLargeError:
        return FuzzedFile(413)
    return FuzzedFile(200)


def _bytes(generator: random.Random, data: bytearray) -> None:
    for _ in range(generator.randint(1, 8)):
        data[generator.randrange(len(data))] = generator.choice(
            (0, 1, 0x7F, 0x80, 0xFE, 0xFF, generator.randrange(256))
        )


def _number(generator: random.Random, data: bytearray) -> None:
    form = generator.choice((">H", "<H", ">L", "<L"))
    if len(data) >= 8:
        # Most numbers that matter stand at the start.
        position = generator.randrange(min(len(data) - 4, generator.choice((64, 1024, len(data)))))
        struct.pack_into(form, data, position, generator.choice(_NUMBERS) & (2 ** (8 * struct.calcsize(form)) - 1))


def _piece(generator: random.Random, data: bytearray) -> tuple[int, int]:
    start = generator.randrange(len(data))
    return start, min(len(data), start + generator.choice((1, 4, 12, 64, 1024)))


def _cut(generator: random.Random, data: bytearray) -> None:
    start, end = _piece(generator, data)
    if len(data) - (end - start) >= 16:
        del data[start:end]


def _repeat(generator: random.Random, data: bytearray) -> None:
    start, end = _piece(generator, data)
    data[end:end] = data[start:end] * generator.choice((1, 2, 16))


def _splice(generator: random.Random, data: bytearray) -> None:
    other = generator.choice(seeds())
    start, end = _piece(generator, bytearray(other))
    position = generator.randrange(len(data))
    data[position:position] = other[start:end]


def _end(generator: random.Random, data: bytearray) -> None:
    del data[max(16, generator.randrange(len(data) + 1)) :]


def _structure(generator: random.Random, data: bytearray) -> None:
    """Damage a number where its format keeps it."""
    if data[:2] in (b"II", b"MM"):
        _tiff_tag(generator, data)
    elif data[:2] == b"\xff\xd8":
        _jpeg_segment(generator, data)
    elif data[1:4] == b"PNG":
        _png_rows(generator, data)
    else:
        _number(generator, data)


def _tiff_tag(generator: random.Random, data: bytearray) -> None:
    endian = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{endian}L", data, 4)
    if directory + 2 > len(data):
        return
    (count,) = struct.unpack_from(f"{endian}H", data, directory)
    entry = directory + 2 + 12 * generator.randrange(min(count, 64) + 1)
    field, form = generator.choice(((0, "H"), (2, "H"), (4, "L"), (8, "L"), (8, "H")))
    if entry + 12 <= len(data):
        tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 338, 339)
        value = generator.choice(tags if field == 0 else range(1, 19) if field == 2 else _NUMBERS)
        struct.pack_into(endian + form, data, entry + field, value & (0xFFFF if form == "H" else 0xFFFFFFFF))


def _jpeg_segment(generator: random.Random, data: bytearray) -> None:
    starts = [index for index in range(2, len(data) - 4) if data[index] == 0xFF and data[index + 1] not in (0, 0xFF)]
    if not starts:
        return
    start = generator.choice(starts)
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    action = generator.randrange(3)
    if action == 0:
        data[start + 1] = generator.randrange(0xC0, 0x100)
    elif action == 1:
        data[start:start] = data[start:end]
    else:
        del data[start : min(end, len(data) - 16)]


def _png_rows(generator: random.Random, data: bytearray) -> None:
    start = data.find(b"IDAT")
    if start < 4:
        return
    length = int.from_bytes(data[start - 4 : start])
    inflater = zlib.decompressobj()
    try:
        rows = bytearray(inflater.decompress(bytes(data[start + 4 : start + 4 + length]), 2**18))
    except zlib.error:
        return
    if rows:
        _bytes(generator, rows)
        packed = zlib.compress(bytes(rows), 1)
        data[start - 4 : start + 4 + length] = struct.pack(">I", len(packed)) + b"IDAT" + packed


def _mend_checksums(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(data[position + 4 : end])))
        position = end + 4


_DAMAGES = (_bytes, _number, _number, _cut, _repeat, _splice, _end, _structure, _structure, _structure)
