"""Images that people send and images that nobody should, each with the status of its answer: the documented table."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from image_files import (
    INFLATES,
    RED,
    bmp,
    exif,
    gif,
    gif_blocks,
    grey_tiff,
    huge_png,
    jpeg,
    jpeg_segment,
    noise,
    png,
    png_chunk,
    save,
    tiff,
    webp_header,
)
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TAKEN, NO_IMAGE, TOO_LARGE = 200, 400, 413


@dataclass(frozen=True, slots=True)
class Case:
    """One file; `status` is what a server with default settings says of it."""

    name: str
    data: bytes
    status: int


@cache
def corpus() -> tuple[Case, ...]:
    """All files, made anew in every process and always the same."""
    groups = (
        *((TAKEN, group) for group in (_modes, _bits, _tiffs, _animations, _sizes, _orientations)),
        *((TAKEN, group) for group in (_damaged_extras, _ballast, _with_a_tail)),
        *((NO_IMAGE, group) for group in (_truncated, _not_ours, _no_image, _contradictions)),
        (TOO_LARGE, _bombs),
    )
    return tuple(Case(name, data, status) for status, group in groups for name, data in group())


Files = Iterator[tuple[str, bytes]]


def _modes() -> Files:
    red = Image.new("RGB", (20, 16), RED)
    for mode, image_format in (
        *(("L", name) for name in FORMATS),
        *(("RGB", name) for name in FORMATS),
        *(("P", name) for name in ("PNG", "GIF", "BMP", "TIFF")),
        *(("1", name) for name in ("PNG", "GIF", "BMP", "TIFF", "JPEG")),
        *(("RGBA", name) for name in ("PNG", "WEBP", "BMP", "TIFF", "GIF")),
        *(("LA", name) for name in ("PNG", "TIFF")),
        *(("CMYK", name) for name in ("JPEG", "TIFF")),
    ):
        yield f"{image_format} {mode}", save(red.convert(mode), image_format)
    yield "TIFF LAB", save(Image.new("LAB", (20, 16), (120, 130, 140)), "TIFF")
    yield "TIFF YCbCr", save(red.convert("YCbCr"), "TIFF")
    yield "PNG transparent colour", save(red, "PNG", transparency=RED)
    yield "PNG transparent palette", save(red.convert("P"), "PNG", transparency=b"\0\x80\xff")
    yield "GIF transparent", save(red.convert("P"), "GIF", transparency=0)
    yield "JPEG progressive", save(noise(), "JPEG", progressive=True)
    yield "JPEG without subsampling", save(noise(), "JPEG", subsampling=0, quality=100)
    yield "JPEG with restarts", save(noise(), "JPEG", restart_marker_blocks=1)
    yield "WEBP lossless", save(noise(), "WEBP", lossless=True)


def _bits() -> Files:
    for depth, colour in ((1, 0), (2, 0), (4, 0), (16, 0), (16, 2), (16, 4), (16, 6)):
        yield f"PNG {depth} bit, colour type {colour}", png(20, 16, depth=depth, colour=colour)
    yield "BMP rows downwards", bmp(4, -4, bytes(16), compression=0)
    yield "BMP 24 bit", bmp(4, 4, bytes(48), bits=24, compression=0)
    yield "BMP run lengths", bmp(4, 4, b"\4\1\0\0" * 4 + b"\0\1")
    for mode, kind in (("I;16", np.uint16), ("I", np.int32), ("F", np.float32)):
        wide = np.linspace(0, 65535, 320).reshape(16, 20).astype(kind)
        yield f"TIFF {mode}", save(Image.fromarray(wide), "TIFF")
    yield "TIFF F not a number", save(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    yield "TIFF F below zero", save(Image.fromarray(np.full((8, 8), -1e30, np.float32)), "TIFF")


def _tiffs() -> Files:
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"TIFF {compression}", save(noise(), "TIFF", compression=compression)
    yield "BigTIFF", save(noise(), "TIFF", big_tiff=True)
    grey = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 16, 277: 1, 278: 4, 279: 16}
    yield "BigTIFF by hand", tiff(grey, bytes(16), big=True)
    yield "TIFF by hand", grey_tiff(4, 4, bytes(16))
    yield "TIFF strips", grey_tiff(4, 4, bytes(16), _273=[16, 20, 24, 28], _278=1, _279=[4] * 4)
    tiled = {256: 20, 257: 20, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16, 324: [16] * 4, 325: [256] * 4}
    yield "TIFF tiles", tiff(tiled, bytes(256))


def _animations() -> Files:
    later = [Image.new("RGB", (20, 16), (0, 0, 255)) for _ in range(3)]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF", "MPO"):
        data = save(Image.new("RGB", (20, 16), RED), image_format, save_all=True, append_images=later)
        yield f"{image_format} of four frames", data
    yield "GIF that restores", gif(gif_blocks(0xF9, b"\x0c\0\0\0"))


def _sizes() -> Files:
    for image_format in FORMATS:
        for size in ((1, 1), (1, 5000), (5000, 1), (3, 2)):
            yield f"{image_format} {size[0]}x{size[1]}", save(Image.new("RGB", size, RED), image_format)


def _orientations() -> Files:
    corner = Image.new("RGB", (32, 32), (0, 0, 0))
    corner.paste(RED, (0, 0, 16, 16))
    for orientation in range(1, 9):
        for image_format in ("JPEG", "PNG", "WEBP"):
            yield f"{image_format} orientation {orientation}", save(corner, image_format, exif=exif(orientation))
        yield f"TIFF orientation {orientation}", save(corner, "TIFF", tiffinfo={274: orientation})


def _damaged_extras() -> Files:
    blocks = {
        "empty": b"Exif\0\0",
        "no TIFF": b"Exif\0\0garbage",
        "cut": b"Exif\0\0II*\0",
        "more entries than it holds": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(10),
        "pointing nowhere": b"Exif\0\0II*\0\xff\xff\xff\x7f",
        "orientation 9": exif(9),
        "orientation 0": exif(0),
        "orientation in text": exif(b"abc\0", kind=2),
        "orientation of an unknown type": exif(b"abcd", kind=99),
        "orientation over zero": exif(bytes(4), kind=5),
    }
    red = Image.new("RGB", (16, 16), RED)
    for name, block in blocks.items():
        yield f"JPEG Exif {name}", save(red, "JPEG", exif=block)
        yield f"PNG Exif {name}", png(4, 4, before=png_chunk(b"eXIf", block[6:]))
    for name, block in (("garbage", b"garbage"), ("empty", b""), ("long", bytes(100_000))):
        for image_format in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield f"{image_format} ICC profile {name}", save(red, image_format, icc_profile=block)
    yield "PNG ICC profile not deflated", png(4, 4, before=png_chunk(b"iCCP", b"k\0\0garbage"))
    yield "PNG text checksum wrong", png(4, 4, before=png_chunk(b"tEXt", b"k\0v")[:-1] + b"?")
    yield "JPEG profile in parts that miss", jpeg(jpeg_segment(0xE2, b"ICC_PROFILE\0\3\7" + bytes(9)))


def _ballast() -> Files:
    yield "PNG texts that inflate", png(4, 4, before=png_chunk(b"zTXt", b"k\0\0" + INFLATES) * 100)
    yield "PNG texts after its data", png(4, 4, after=png_chunk(b"zTXt", b"k\0\0" + INFLATES) * 100)
    yield "PNG international texts", png(4, 4, before=png_chunk(b"iTXt", b"k\0\1\0\0\0" + INFLATES) * 100)
    yield "PNG profiles that inflate", png(4, 4, before=png_chunk(b"iCCP", b"k\0\0" + INFLATES) * 100)
    yield "PNG large Exif", png(4, 4, before=png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535)))
    yield "WEBP large Exif", save(noise(), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535))
    yield "PNG empty private chunks", png(4, 4, before=png_chunk(b"prVt") * 10_000)
    yield "JPEG Exif 500 times", jpeg(jpeg_segment(0xE1, exif(1) + bytes(5000)) * 500)
    yield "JPEG comments", jpeg(jpeg_segment(0xFE, bytes(60_000)) * 50)
    yield "GIF comments", gif(gif_blocks(0xFE, *[b"x"] * 10_000))
    yield "GIF application data", gif(gif_blocks(0xFF, b"XMP DataXMP", *[bytes(255)] * 1000))
    yield "TIFF tag of many numbers", grey_tiff(4, 4, bytes(16), _50000=range(200_000))


def _with_a_tail() -> Files:
    tails = {"zip": b"PK\3\4" + bytes(30), "pdf": b"%PDF-1.7\n", "html": b"<script>1</script>", "jpeg": jpeg()}
    for image_format in FORMATS:
        for name, tail in tails.items():
            yield f"{image_format} and then {name}", save(Image.new("RGB", (20, 16), RED), image_format) + tail
    yield "GIF whose comment is PHP", gif(gif_blocks(0xFE, b"<?php system('id'); ?>"))
    yield "JPEG whose comment is HTML", jpeg(jpeg_segment(0xFE, b"<html><script>1</script>"))


def _truncated() -> Files:
    for image_format in FORMATS:
        for options in ({}, {"progressive": True}) if image_format == "JPEG" else ({},):
            data = save(noise(), image_format, **options)
            for eighth in range(8):
                name = f"{image_format} {' '.join(options)} {eighth}/8"
                yield name, data[: len(data) * eighth // 8]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        data = save(noise(), "TIFF", compression=compression)
        yield f"TIFF {compression} 4/8", data[: len(data) // 2]


def _not_ours() -> Files:
    red = Image.new("RGB", (16, 16), RED)
    for image_format in ("ICO", "PPM", "TGA", "PCX", "DDS", "EPS", "PDF", "SGI", "ICNS", "JPEG2000", "DIB"):
        yield image_format, save(red, image_format)
    yield "PSD", b"8BPS\0\1" + bytes(40)
    yield "AVIF", b"\0\0\0\x18ftypavif" + bytes(40)
    yield "HEIC", b"\0\0\0\x18ftypheic" + bytes(40)
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "HTML", b"<!doctype html><title>no image</title>"
    yield "MP4", b"\0\0\0\x18ftypmp42" + bytes(40)
    yield "WAV", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)
    yield "FITS", b"SIMPLE  =                    T" + bytes(50)


def _no_image() -> Files:
    yield "zeros", bytes(1000)
    yield "ones", b"\xff" * 1000
    for image_format in FORMATS:
        data = save(noise(), image_format)
        yield f"{image_format} wrong first byte", b"?" + data[1:]
        yield f"{image_format} behind a space", b" " + data
        yield f"{image_format} zeros after its first bytes", data[:12] + bytes(len(data) - 12)
    yield "PNG behind JPEG's first bytes", b"\xff\xd8\xff\xe0" + save(noise(), "PNG")
    yield "JPEG without scans", b"\xff\xd8" + jpeg_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + b"\xff\xd9"
    yield "GIF without frames", gif()[:19] + b";"


def _contradictions() -> Files:
    strips = list(range(16, 32))
    yield "TIFF more strips than rows", grey_tiff(4, 4, bytes(16), _273=strips, _278=3, _279=[1] * 16)
    yield "TIFF fewer strips than rows", grey_tiff(4, 4, bytes(16), _278=3)
    yield "TIFF without a size", tiff({258: 8, 259: 1, 262: 1, 273: 16, 279: 4}, bytes(4))
    yield "TIFF of no tags", b"II*\0\x08\0\0\0" + bytes(6)
    yield "TIFF tiles of no size", grey_tiff(4, 4, bytes(16), _322=0, _323=16, _324=16, _325=16)
    for compression in ("group3", "group4"):
        yield f"TIFF {compression}", save(noise().convert("1"), "TIFF", compression=compression)
    yield "TIFF seven samples per pixel", grey_tiff(4, 4, bytes(112), _277=7, _258=[8] * 7)
    for compression in (6, 34925, 50000, 50001, 9999):
        yield f"TIFF compression {compression}", grey_tiff(4, 4, bytes(16), _259=compression)
    yield "TIFF size in two numbers", grey_tiff(4, 4, bytes(16), _256=[4, 4])
    yield "BMP more colours than bits tell apart", bmp(4, 4, bytes(16), compression=0, num_colours=257)
    yield "BMP 7 bits", bmp(4, 4, bytes(16), bits=7, compression=0)
    yield "PNG of no size", png(0, 0)
    yield "PNG data checksum wrong", png(4, 4)[:-17] + b"?" + png(4, 4)[-16:]
    yield "PNG palette without colours", png(4, 4, colour=3, depth=9)


def _bombs() -> Files:
    for side in (9_500, 20_000, 2**31 - 1):
        yield f"PNG {side} square", huge_png(side, side)
    large = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
    head = jpeg()
    start = head.find(b"\xff\xc2")
    yield "JPEG 65535 square", head[:start] + b"\xff\xc2" + large[2:] + head[start + 9 :]
    yield "GIF 65535 square", gif(screen=(65535, 65535))
    yield "GIF frame larger than its screen", gif(frame=(60_000, 60_000))
    yield "GIF frame that it would restore", gif(gif_blocks(0xF9, b"\x08\0\0\0"), frame=(13_000, 13_000))
    yield "BMP 30000 square", bmp(30_000, 30_000, bytes(16), compression=0)
    yield "TIFF 60000 square", grey_tiff(60_000, 60_000, bytes(16))
    yield "WEBP 16383 square", webp_header(16_383, 16_383)
    yield "WEBP 8000 square", webp_header(8_000, 8_000)
    yield "WEBP canvas 16777216 square", b"RIFF\x7a\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(100)
    tile = zlib.compress(bytes(20_000 * 20_000 // 8), 9)
    tags = {256: 1, 257: 1, 258: 1, 259: 8, 262: 1, 277: 1, 322: 20_000, 323: 20_000, 324: 16, 325: len(tile)}
    yield "TIFF 1x1 from a tile 20000 square", tiff(tags, tile)
    yield "TIFF a million strips", grey_tiff(4, 4, bytes(16), _273=range(1_000_000))
    yield "JPEG scans", jpeg(num_scans=200)
    yield "JPEG segments", jpeg(jpeg_segment(0xE3) * 100_000)
    yield "JPEG Exif 5000 times", jpeg(jpeg_segment(0xE1, b"Exif\0\0" + bytes(50)) * 5_000)
    yield "PNG chunks", png(4, 4, before=png_chunk(b"prVt") * 100_000)
    yield "PNG empty data", png(4, 4, after=png_chunk(b"IDAT") * 100_000)
    yield "GIF blocks", gif(gif_blocks(0xFE, *[b"x"] * 100_000))
    yield "BMP run lengths in one row", bmp(49_000_000, 1, b"\1\1\0\0")
    yield "BMP run lengths of nothing", bmp(8, 8, b"\1\0" * 1_100_000)
