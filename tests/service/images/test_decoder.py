"""Encoded bytes to pixels: every format that is accepted, and everything a client can get wrong."""

import warnings
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from image_files import bmp, exif, huge_png, noise, save
from PIL import Image, ImageFile

from service.errors import TooLargeError, UndecodableImageError
from service.images.decoder import ImageDecoder
from service.settings import PILLOW_MAX_PIXELS
from weights.image_files.reduce import FORMATS
from weights.preprocessing import Preprocessing

CROP_PX = 8
RED = (200, 10, 20)


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(resize_px=CROP_PX, crop_px=CROP_PX)


@pytest.fixture
def decoder(preprocessing: Preprocessing) -> ImageDecoder:
    return ImageDecoder(preprocessing, max_bytes=100_000, max_pixels=10_000)


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def of_mode(mode: str) -> Image.Image:
    return Image.new("RGB", (20, 16), RED).convert(mode)


@pytest.mark.parametrize("image_format", FORMATS)
def test_decode_accepted_format_gives_its_colour(decoder, image_format):
    pixels = decoder.decode(encode(of_mode("RGB"), image_format))

    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, CROP_PX, CROP_PX))
    # JPEG and WebP are lossy; GIF has a palette.
    assert np.abs(pixels.reshape(3, -1).mean(axis=1) - RED).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_decode_extreme_size_is_an_image_like_any_other(decoder, size):
    pixels = decoder.decode(encode(Image.new("RGB", size, RED)))

    assert (pixels[:, 0, 0] == RED).all()


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("L", "PNG"), ("1", "PNG"), ("LAB", "TIFF")],
)
def test_decode_mode_other_than_rgb_is_converted(decoder, mode, image_format):
    # Pillow has no conversion from RGB to Lab.
    image = Image.new(mode, (20, 16), (120, 130, 140)) if mode == "LAB" else of_mode(mode)

    assert decoder.decode(encode(image, image_format)).shape == (3, CROP_PX, CROP_PX)


def test_decode_palette_with_transparency_drops_it(decoder):
    pixels = decoder.decode(encode(of_mode("RGB").convert("P"), transparency=b"\0\x80\xff"))

    assert np.abs(pixels[:, 0, 0].astype(int) - RED).max() < 30  # the web palette is coarse


def test_decode_16_bit_grey_keeps_its_brightness(decoder):
    image = Image.fromarray(np.full((16, 20), 128 << 8, dtype=np.uint16))

    assert (decoder.decode(encode(image)) == 128).all()


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_decode_animation_gives_its_first_frame(decoder, image_format):
    later = Image.new("RGB", (20, 16), (0, 0, 255))
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(of_mode("RGB"), image_format, save_all=True, append_images=[later], **options)

    assert np.abs(decoder.decode(data)[:, 4, 4].astype(int) - RED).max() < 6


def test_decode_exif_orientation_is_applied(decoder):
    image = Image.new("RGB", (16, 16), (0, 0, 0))
    image.paste(RED, (0, 0, 16, 8))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: up becomes right
    pixels = decoder.decode(encode(image, exif=exif))

    assert (pixels[0, 4, 7], pixels[0, 4, 0]) == (RED[0], 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\0" * 10,  # announces more entries than it holds
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0\0\0\0\0",  # orientation 9 of 8
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0",  # orientation as text
    ],
)
def test_decode_damaged_exif_does_not_spoil_the_pixels(decoder, exif):
    pixels = decoder.decode(encode(of_mode("RGB"), "JPEG", exif=exif))

    assert np.abs(pixels.reshape(3, -1).mean(axis=1) - RED).max() < 6


@pytest.mark.parametrize("image_format", FORMATS)
def test_decode_truncated_image_is_undecodable(decoder, image_format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encode(noise, image_format)

    with pytest.raises(UndecodableImageError):
        decoder.decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"<svg></svg>", b"%PDF-"],
)
def test_decode_bytes_that_are_no_image_are_undecodable(decoder, data):
    with pytest.raises(UndecodableImageError):
        decoder.decode(data)


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA"])
def test_decode_format_that_is_not_accepted_is_undecodable_naming_those_that_are(decoder, image_format):
    with pytest.raises(UndecodableImageError, match="JPEG, PNG"):
        decoder.decode(encode(of_mode("RGB"), image_format))


@pytest.mark.parametrize("image_format", FORMATS)
def test_decode_damaged_bytes_never_raise_anything_else(decoder, image_format):
    generator = np.random.default_rng(1)
    noise = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    good = np.frombuffer(encode(noise, image_format), np.uint8)
    for _ in range(150):
        damaged = good.copy()
        where = generator.integers(0, len(damaged), 3)
        damaged[where] = generator.integers(0, 256, 3)
        with suppress(UndecodableImageError, TooLargeError):
            decoder.decode(damaged.tobytes())


def test_decode_more_bytes_than_allowed_names_both_numbers(decoder):
    with pytest.raises(TooLargeError, match=r"100001.*100000"):
        decoder.decode(b"x" * 100_001)


def test_decode_pixels_at_the_limit_are_taken_and_one_row_more_is_not(decoder):
    decoder.decode(encode(Image.new("L", (100, 100))))
    with pytest.raises(TooLargeError, match=r"100 x 101 .*10000"):
        decoder.decode(encode(Image.new("L", (100, 101))))


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])  # Pillow warns, Pillow refuses, nothing could hold it
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decode_pixel_bomb_is_too_large_whatever_becomes_of_warnings(decoder, side, action):
    assert side * side > PILLOW_MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(TooLargeError, match="10000"):
            decoder.decode(huge_png(side, side))


def test_decode_pillows_own_limit_is_the_one_settings_are_held_to():
    assert PILLOW_MAX_PIXELS == Image.MAX_IMAGE_PIXELS


def test_decode_without_memory_refuses_that_image_only(decoder, monkeypatch):
    data = encode(of_mode("RGB"))

    def no_memory(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", no_memory)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", no_memory)
    with pytest.raises(TooLargeError, match="does not fit into the memory"):
        decoder.decode(data)


def test_decode_small_thumbnail_is_decoded_as_ever(decoder: ImageDecoder) -> None:
    data = encode(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")

    pixels = decoder.decode_small(data)

    assert pixels is not None
    assert (pixels == decoder.decode(data)).all()


def test_decode_small_leaves_what_is_large_by_its_header_or_its_bytes(preprocessing: Preprocessing) -> None:
    decoder = ImageDecoder(preprocessing, max_bytes=100_000, max_pixels=50_000_000)

    assert decoder.decode_small(huge_png(3000, 3000)) is None
    assert decoder.decode_small(encode(Image.effect_noise((127, 127), 90).convert("RGB"), "BMP")) is None


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_decode_small_damaged_image_is_refused(decoder: ImageDecoder, data: bytes) -> None:
    with pytest.raises(UndecodableImageError):
        decoder.decode_small(data)


@pytest.mark.parametrize("image_format", FORMATS)
def test_decode_small_takes_the_formats_whose_decoders_are_fast_throughout(decoder, image_format):
    pixels = decoder.decode_small(encode(of_mode("RGB"), image_format))

    assert (pixels is not None) is (image_format in ("JPEG", "PNG", "WEBP"))


def test_decode_ordinary_leaves_what_should_be_decoded_alone(preprocessing: Preprocessing) -> None:
    decoder = ImageDecoder(preprocessing, max_bytes=100_000, max_pixels=50_000_000)

    assert decoder.decode_ordinary(huge_png(4_000, 4_001)) is None
    with pytest.raises(UndecodableImageError, match="truncated"):
        decoder.decode_ordinary(huge_png(4_000, 4_000))


def test_decode_truncated_files_are_not_filled_up() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_decode_long_row_is_read_in_one_piece(preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class CountingBytesIO(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    monkeypatch.setattr("weights.image_files.decode.BytesIO", CountingBytesIO)
    data = bmp(400_000, 1, bytes(1_200_000), bits=24, compression=0)
    ImageDecoder(preprocessing, max_bytes=2_000_000, max_pixels=400_000).decode(data)

    assert sum(size is None or size > 1000 for size in sizes) == 1


@pytest.mark.parametrize(("padding", "turned"), [(1_000, True), (100_000, False)])
def test_decode_webp_exif_is_read_up_to_a_size(decoder: ImageDecoder, padding: int, turned: bool) -> None:
    image = noise(16, 16)
    plain, block = save(image, "WEBP", lossless=True), exif(3) + bytes(padding)
    decoder.max_bytes = 200_000

    pixels = decoder.decode(save(image, "WEBP", lossless=True, exif=block))

    assert (pixels == decoder.decode(plain)[:, ::-1, ::-1] if turned else pixels == decoder.decode(plain)).all()
