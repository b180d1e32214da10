"""Image files written byte by byte, since no encoder writes what must be refused."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

RED = (200, 10, 20)
INFLATES = zlib.compress(bytes(1_000_000), 9)
"""A megabyte in one kilobyte."""


def save(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Pillow's file."""
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 40, seed: int = 0) -> Image.Image:
    """RGB that no format compresses away."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    before: bytes = b"",
    rows: bytes | None = None,
    after: bytes = b"",
) -> bytes:
    """A PNG of zeros, or of these rows with their filter bytes, with other chunks before and after its data."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = bytes((1 + (width * depth * samples + 7) // 8) * height) if rows is None else rows
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + png_chunk(b"IEND")


def huge_png(width: int, height: int) -> bytes:
    """A PNG that announces far more pixels than it holds."""
    return png(width, height, rows=b"\0")


def jpeg_segment(marker: int, data: bytes = b"") -> bytes:
    """A marker segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data


def jpeg(segments: bytes = b"", *, size: tuple[int, int] = (16, 16), num_scans: int = 0) -> bytes:
    """A red progressive JPEG with these segments at its start and its last scan repeated so often."""
    data = save(Image.new("RGB", size, RED), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:2] + segments + data[2:-2] + last * num_scans + data[-2:]


def gif(blocks: bytes = b"", *, screen: tuple[int, int] = (2, 2), frame: tuple[int, int] = (2, 2)) -> bytes:
    """A GIF of one black frame, which holds four pixels whatever it says, with these blocks before it."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + blocks + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x03\x04\x80\x02\0;"


def gif_blocks(label: int, *blocks: bytes) -> bytes:
    """An extension."""
    return bytes((0x21, label)) + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def bmp(width: int, height: int, body: bytes, *, bits: int = 8, compression: int = 1, num_colours: int = 256) -> bytes:
    """A BMP with a palette of reds where its bits need one."""
    palette = b"".join(bytes((0, 0, index % 256, 0)) for index in range(num_colours)) if bits <= 8 else b""
    start = 14 + 40 + len(palette)
    head = struct.pack("<LHHL", start + len(body), 0, 0, start)
    sizes = struct.pack("<LllHHLLLLLL", 40, width, height, 1, bits, compression, len(body), 0, 0, num_colours, 0)
    return b"BM" + head + sizes + palette + body


def tiff(tags: dict[int, int | Sequence[int] | bytes], data: bytes = b"", *, big: bool = False) -> bytes:
    """A TIFF whose `data` stands at byte 16; numbers are written as LONG, bytes as such."""
    entry, number, inline = ("<HHQ", "<Q", 8) if big else ("<HHL", "<L", 4)
    data += bytes(-len(data) % 8)
    outside, entries = b"", b""
    for tag, value in sorted(tags.items()):
        values = (value,) if isinstance(value, int) else value
        packed = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}L", *values)
        entries += struct.pack(entry, tag, 1 if isinstance(values, bytes) else 4, len(values))
        if len(packed) <= inline:
            entries += packed.ljust(inline, b"\0")
        else:
            entries += struct.pack(number, 16 + len(data) + len(outside))
            outside += packed
    directory = struct.pack("<Q" if big else "<H", len(tags)) + entries + bytes(inline)
    start = struct.pack(number, 16 + len(data) + len(outside))
    head = b"II+\0\x08\0\0\0" + start if big else b"II*\0" + start + bytes(8)
    return head + data + outside + directory


def grey_tiff(width: int, height: int, data: bytes, **tags: int | Sequence[int]) -> bytes:
    """An uncompressed 8-bit TIFF of one strip; tags by name with an underscore, as `_258=16`."""
    basic = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 16, 277: 1, 278: height, 279: len(data)}
    return tiff({**basic, **{int(name[1:]): value for name, value in tags.items()}}, data)


def webp_header(width: int, height: int) -> bytes:
    """A lossless WebP that ends after its size."""
    bits = struct.pack("<L", (width - 1) | (height - 1) << 14)
    return b"RIFF" + struct.pack("<L", 100) + b"WEBPVP8L" + struct.pack("<L", 88) + b"\x2f" + bits


def exif(orientation: int | bytes, *, kind: int = 3) -> bytes:
    """An Exif block with nothing but an orientation."""
    value = orientation if isinstance(orientation, bytes) else struct.pack("<HH", orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<LHHHL", 8, 1, 0x0112, kind, 1) + value + bytes(4)
