"""Encoded bytes to pixels; `test_image_corpus.py` has everything that a client can get wrong."""

import warnings
from io import BytesIO

import numpy as np
import pytest
from image_files import RED, bmp, exif, huge_png, noise, save
from PIL import Image

from service.errors import TooLargeError, UndecodableImageError
from service.images.decoder import ImageDecoder
from service.settings import PILLOW_MAX_PIXELS
from weights.image_files.reduce import FORMATS
from weights.preprocessing import Preprocessing

CROP_PX = 8
LOSSLESS = {"lossless": True}


def decoder_of(max_bytes: int = 100_000, max_pixels: int = 10_000) -> ImageDecoder:
    preprocessing = Preprocessing(resize_px=CROP_PX, crop_px=CROP_PX)
    return ImageDecoder(preprocessing, max_bytes=max_bytes, max_pixels=max_pixels)


@pytest.fixture
def decoder() -> ImageDecoder:
    return decoder_of()


def red() -> Image.Image:
    return Image.new("RGB", (20, 16), RED)


@pytest.mark.parametrize("image_format", FORMATS)
def test_decode_accepted_format_gives_its_colour_and_in_place_where_its_decoder_is_fast(decoder, image_format):
    data = save(red(), image_format)
    pixels, small = decoder.decode(data), decoder.decode_small(data)

    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, CROP_PX, CROP_PX))
    # JPEG and WebP are lossy; GIF has a palette.
    assert np.abs(pixels.reshape(3, -1).mean(axis=1) - RED).max() < 6
    assert (small is not None) is (image_format in ("JPEG", "PNG", "WEBP"))
    assert small is None or (small == pixels).all()


def test_decode_palette_with_transparency_drops_it(decoder):
    pixels = decoder.decode(save(red().convert("P"), "PNG", transparency=b"\0\x80\xff"))

    assert np.abs(pixels[:, 0, 0].astype(int) - RED).max() < 30  # the web palette is coarse


def test_decode_16_bit_grey_keeps_its_brightness(decoder):
    image = Image.fromarray(np.full((16, 20), 128 << 8, dtype=np.uint16))

    assert (decoder.decode(save(image, "PNG")) == 128).all()


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_decode_animation_gives_its_first_frame(decoder, image_format):
    later = Image.new("RGB", (20, 16), (0, 0, 255))
    options = LOSSLESS if image_format == "WEBP" else {}
    data = save(red(), image_format, save_all=True, append_images=[later], **options)

    assert np.abs(decoder.decode(data)[:, 4, 4].astype(int) - RED).max() < 6


def test_decode_format_that_is_not_accepted_is_undecodable_naming_those_that_are(decoder):
    with pytest.raises(UndecodableImageError, match="JPEG, PNG"):
        decoder.decode(save(red(), "PPM"))


def test_decode_bytes_at_the_limit_are_taken_and_one_more_is_not_naming_both_numbers(decoder):
    with pytest.raises(UndecodableImageError):
        decoder.decode(b"x" * 100_000)
    with pytest.raises(TooLargeError, match=r"100001.*100000"):
        decoder.decode(b"x" * 100_001)


def test_decode_pixels_at_the_limit_are_taken_and_one_row_more_is_not(decoder):
    decoder.decode(save(Image.new("L", (100, 100)), "PNG"))
    with pytest.raises(TooLargeError, match=r"100 x 101 .*10000"):
        decoder.decode(save(Image.new("L", (100, 101)), "PNG"))


@pytest.mark.parametrize("side", [9_500, 20_000])  # Pillow warns, Pillow refuses
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decode_pixel_bomb_is_too_large_whatever_becomes_of_warnings(decoder, side, action):
    assert side * side > PILLOW_MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(TooLargeError, match="10000"):
            decoder.decode(huge_png(side, side))


def test_decode_without_memory_refuses_that_image_only(decoder, monkeypatch):
    data = save(red(), "PNG")

    def no_memory(self):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", no_memory)
    with pytest.raises(TooLargeError, match="does not fit into the memory"):
        decoder.decode(data)


def test_decode_lanes_leave_what_is_too_large_for_them_by_its_header_or_its_bytes():
    decoder = decoder_of(max_pixels=50_000_000)

    assert decoder.decode_small(save(noise(128, 128), "JPEG", quality=50)) is not None
    assert decoder.decode_small(save(Image.new("RGB", (128, 129)), "PNG")) is None
    assert decoder.decode_small(save(noise(80, 80), "PNG")) is None
    assert decoder.decode_ordinary(huge_png(4_000, 4_001)) is None
    with pytest.raises(UndecodableImageError, match="truncated"):
        decoder.decode_ordinary(huge_png(4_000, 4_000))


def test_decode_long_row_is_read_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class CountingBytesIO(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    monkeypatch.setattr("weights.image_files.decode.BytesIO", CountingBytesIO)
    data = bmp(400_000, 1, bytes(1_200_000), bits=24, compression=0)
    decoder_of(max_bytes=2_000_000, max_pixels=400_000).decode(data)

    assert sum(size is None or size > 1000 for size in sizes) == 1


@pytest.mark.parametrize(("padding", "turned"), [(1_000, True), (100_000, False)])
def test_decode_webp_exif_is_read_up_to_a_size(padding: int, turned: bool) -> None:
    image, decoder = noise(16, 16), decoder_of(max_bytes=200_000)
    plain = decoder.decode(save(image, "WEBP", **LOSSLESS))

    pixels = decoder.decode(save(image, "WEBP", exif=exif(3) + bytes(padding), **LOSSLESS))

    assert (pixels == plain[:, ::-1, ::-1] if turned else pixels == plain).all()
