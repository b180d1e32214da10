"""What is left out of a file changes no pixel of its first image, and limits hold exactly."""

from io import BytesIO

import numpy as np
import pytest
from image_corpus import corpus
from image_files import INFLATES, bmp, exif, gif, gif_blocks, grey_tiff, jpeg, jpeg_segment, png, png_chunk
from PIL import Image

from weights.image_files import bmp as bmp_files
from weights.image_files import gif as gif_files
from weights.image_files import jpeg as jpeg_files
from weights.image_files import png as png_files
from weights.image_files import tiff as tiff_files
from weights.image_files.errors import ImageTooLargeError, UnreadableImageError
from weights.image_files.reduce import reduce_file

MAX_PIXELS = 50_000_000
TAKEN = [case for case in corpus() if case.status == 200]


def pixels(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image).copy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case.name)
def test_reduce_file_decodes_to_the_pixels_of_the_whole_file(case):
    image_format, reduced = reduce_file(case.data, max_pixels=MAX_PIXELS)
    try:
        whole = pixels(case.data)
    # Not every decoder takes what is left out.
    except Exception:
        whole = pixels(reduced)
    assert len(reduced) <= len(case.data) + 500
    assert np.array_equal(pixels(reduced), whole, equal_nan=whole.dtype.kind == "f")
    with Image.open(BytesIO(reduced)) as image:
        assert image.format == image_format
        assert getattr(image, "n_frames", 1) == 1 or image_format in ("GIF", "WEBP")


@pytest.mark.parametrize(
    ("whole", "limit"),
    [
        (lambda count: jpeg(jpeg_segment(0xE3) * count), jpeg_files.MAX_SEGMENTS),
        (lambda count: jpeg(num_scans=count), jpeg_files.MAX_SCANS),
        (lambda count: png(4, 4, before=png_chunk(b"prVt") * count), png_files.MAX_CHUNKS),
        (lambda count: gif(gif_blocks(0xFE, *[b"x"] * count)), gif_files.MAX_BLOCKS),
    ],
)
def test_reduce_file_limit_on_parts_holds(whole, limit):
    with pytest.raises(ImageTooLargeError, match=str(limit)):
        reduce_file(whole(limit + 1), max_pixels=MAX_PIXELS)
    # What every file has besides is far less than this.
    reduce_file(whole(limit - 50), max_pixels=MAX_PIXELS)


def test_reduce_jpeg_keeps_only_the_first_exif_block():
    other = jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1")
    data = jpeg(jpeg_segment(0xE1, exif(6)) + other + jpeg_segment(0xE1, exif(3)))
    _, reduced = reduce_file(data + b"tail", max_pixels=MAX_PIXELS)
    assert reduced.count(b"Exif\0\0") == 1
    assert exif(6) in reduced
    assert not any(part in reduced for part in (b"xap", b"ICC", b"tail"))


def test_reduce_png_keeps_exif_up_to_its_limit():
    for size, kept in ((png_files.MAX_EXIF_BYTES, True), (png_files.MAX_EXIF_BYTES + 1, False)):
        data = png(4, 4, before=png_chunk(b"eXIf", bytes(size)) + png_chunk(b"zTXt", b"k\0\0" + INFLATES))
        _, reduced = reduce_file(data, max_pixels=MAX_PIXELS)
        assert (b"eXIf" in reduced) is kept
        assert b"zTXt" not in reduced


def test_reduce_gif_keeps_transparency_without_disposal():
    _, reduced = reduce_file(gif(gif_blocks(0xF9, b"\x0d\1\2\3")), max_pixels=MAX_PIXELS)
    assert gif_blocks(0xF9, b"\x01\1\2\3") in reduced


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        ({"_259": 50000}, UnreadableImageError, "compression 50000 is not accepted; accepted are JPEG, LZW"),
        ({"_273": [16, 16]}, UnreadableImageError, "has 2 strips; its picture consists of 1"),
        ({"_277": 7}, UnreadableImageError, f"7 samples per pixel; the limit is {tiff_files.MAX_SAMPLES}"),
        ({"_322": 10_000, "_323": 5_001, "_324": 16}, ImageTooLargeError, "10000 x 5001 pixels; the limit is 50000000"),
        ({"_322": 16}, UnreadableImageError, "how large its tiles are"),
        ({"_320": range(65_537)}, ImageTooLargeError, "tag 320 has 65537 values; the limit is 65536"),
        ({"_256": 0}, UnreadableImageError, "how large it is"),
    ],
)
def test_reduce_tiff_that_asks_for_too_much_is_refused_naming_it(tags, error, message):
    with pytest.raises(error, match=message):
        reduce_file(grey_tiff(4, 4, bytes(16), **tags), max_pixels=MAX_PIXELS)


def test_reduce_tiff_keeps_no_tag_that_says_nothing_of_pixels():
    data = grey_tiff(4, 4, bytes(16), _274=1, _700=[1] * 100, _34665=8, _34675=[2] * 100)
    _, reduced = reduce_file(data, max_pixels=MAX_PIXELS)
    with Image.open(BytesIO(reduced)) as image:
        assert set(image.tag_v2) == {256, 257, 258, 259, 262, 273, 274, 277, 278, 279}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (bmp(4, -262_145, b""), ImageTooLargeError, f"4 x 262145 .* limit is {bmp_files.MAX_RUN_LENGTH_PIXELS}"),
        (bmp(4, 4, bytes(2**21)), ImageTooLargeError, f"bytes; the limit is {bmp_files.MAX_RUN_LENGTH_BYTES}"),
        (bmp(4, 4, b"", bits=4, num_colours=17, compression=0), UnreadableImageError, "17 colours; 4 bits"),
    ],
)
def test_reduce_bmp_that_takes_too_long_is_refused_naming_it(data, error, message):
    with pytest.raises(error, match=message):
        reduce_file(data, max_pixels=MAX_PIXELS)
