import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import grey_tiff
from images import encode
from PIL import Image, ImageOps

from weights.preprocessing import Preprocessing, centre_crop, normalise

PREPROCESSING = Preprocessing(resize_px=64, crop_px=56)


def _picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_apply_divisible_size_equals_resize_then_crop() -> None:
    image = _picture(192, 128)
    resized = image.resize((96, 64), Image.Resampling.BICUBIC).crop((20, 4, 76, 60))
    assert np.array_equal(PREPROCESSING.apply(image), np.asarray(resized).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("size", "mode"), [((1, 1), "1"), ((1, 5000), "LA"), ((3, 200), "P"), ((500, 375), "CMYK"), ((64, 64), "RGBA")]
)
def test_apply_any_size_and_mode_gives_the_crop_in_rgb(size: tuple[int, int], mode: str) -> None:
    pixels = PREPROCESSING.apply(_picture(*size).convert(mode))
    assert (pixels.shape, pixels.dtype) == ((3, 56, 56), np.uint8)


@pytest.mark.parametrize(("bits", "white_is_zero"), [(8, True), (12, False), (16, True)])
def test_apply_grey_tiff_of_any_depth_and_direction_is_the_same(bits: int, white_is_zero: bool) -> None:
    grey = np.arange(0, 256, 17, dtype=np.uint8).repeat(256).reshape(64, 64)
    scaled = (255 - grey if white_is_zero else grey).astype(np.int64) * (2**bits - 1) // 255
    first, second = scaled.ravel()[::2], scaled.ravel()[1::2]
    pairs = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    data = {8: scaled.astype(np.uint8), 12: pairs, 16: scaled.astype("<u2")}[bits].tobytes()
    with Image.open(io.BytesIO(grey_tiff(64, 64, data, _258=bits, _262=0 if white_is_zero else 1))) as image:
        assert np.array_equal(PREPROCESSING.apply(image), PREPROCESSING.apply(Image.fromarray(grey)))


def test_apply_truncated_file_raises_and_damaged_exif_loses_its_orientation_only() -> None:
    data = encode(np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image, pytest.raises(OSError, match="truncated"):
        PREPROCESSING.apply(image)
    image = _picture(64, 64)
    image.info["exif"] = b"Exif\0\0II*\0"
    assert np.array_equal(PREPROCESSING.apply(image), PREPROCESSING.apply(_picture(64, 64)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_px": 65}, "crop_px must be between 1 and resize_px 64, got 65"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
    ],
)
def test_preprocessing_invalid_raises(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PREPROCESSING, **changes)


def test_centre_crop_then_normalise_equals_formula() -> None:
    pixels = torch.arange(2 * 3 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 3, 8, 8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (pixels[..., 2:6, 2:6] / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalise(centre_crop(pixels, 4), mean, std), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_apply_every_exif_orientation_equals_turning_the_image_first(orientation: int) -> None:
    image = _picture(96, 128).point(lambda value: 64 + value // 2)  # far from black and white, where rounding clips
    image.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    assert upright is not None
    difference = PREPROCESSING.apply(image).astype(int) - PREPROCESSING.apply(upright)
    assert np.abs(difference).max() <= 1  # rows and columns are rounded in another order


@pytest.mark.parametrize(("white", "grey"), [(255, 128), (65_535, 32_896), (2**31 - 1, 2**29)])
def test_apply_32_bit_grey_is_scaled_to_the_smallest_usual_range(white: int, grey: int) -> None:
    values = np.full((64, 64), grey, dtype=np.int32)
    values[:2] = white  # outside the crop
    pixels = PREPROCESSING.apply(Image.fromarray(values))
    assert np.abs(pixels[:, 20:].astype(int) - (32 if white > 65_535 else 128)).max() <= 1


def test_apply_float_grey_up_to_1_fills_the_range_and_what_is_no_number_is_black() -> None:
    values = np.full((64, 64), 0.5, dtype=np.float32)
    values[:8], values[-8:], values[32] = np.nan, 1.0, -1e30
    pixels = PREPROCESSING.apply(Image.fromarray(values))
    assert {int(pixels[0, 1, 0]), int(pixels[0, 16, 0]), int(pixels[0, -1, 0])} == {0, 127, 255}


@pytest.mark.parametrize("size", [(1000, 777), (300, 2000), (128, 128)])
def test_apply_large_jpeg_is_decoded_smaller_and_looks_the_same(size: tuple[int, int]) -> None:
    smooth = _picture(12, 9).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    smooth.save(buffer, "JPEG", quality=95)
    with Image.open(buffer) as whole:
        whole.load()
        expected = PREPROCESSING.apply(whole).astype(int)
    with Image.open(buffer) as image:
        pixels = PREPROCESSING.apply(image)
        assert 128 <= min(image.size) <= min(size)
        assert np.abs(pixels - expected).max() <= 4
        assert (min(image.size) < 256) or min(size) < 256
