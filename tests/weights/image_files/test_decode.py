from pathlib import Path

import numpy as np
import pytest
from image_files import exif, save
from images import write_parquet
from PIL import Image

from service.images.decoder import ImageDecoder
from weights.data import load_images
from weights.image_files.decode import decode
from weights.image_files.errors import ImageTooLargeError
from weights.preprocessing import Preprocessing

SQUARE = Preprocessing(resize_px=16, crop_px=16)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>'
)


def half(size: int = 64) -> Image.Image:
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[: size // 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "data",
    [
        save(half(), "JPEG", quality=95, exif=exif(3)),
        save(half(), "JPEG", quality=95, xmp=XMP),
        save(half(), "WEBP", lossless=True, xmp=XMP),
        save(half(), "PNG", exif=exif(6)),
        save(half(9), "GIF"),
    ],
    ids=["exif", "xmp", "xmp in webp", "exif in png", "gif"],
)
def test_decode_training_and_serving_see_the_same_pixels(tmp_path: Path, data: bytes) -> None:
    trained = load_images([write_parquet(tmp_path / "a.parquet", [data], [0], ["a"])], SQUARE)
    served = ImageDecoder(SQUARE, max_bytes=10**6, max_pixels=10**6).decode(data)
    assert np.array_equal(trained.images[0], served)


def test_decode_says_how_large_the_file_s_own_image_is() -> None:
    decoded = decode(save(Image.new("RGB", (90, 40)), "JPEG"), SQUARE)
    assert decoded is not None
    assert (decoded.shorter_px, decoded.pixels.shape) == (40, (3, 16, 16))


def test_decode_leaves_what_another_call_should_do() -> None:
    data = save(half(), "PNG")
    assert decode(data, SQUARE, up_to_pixels=64 * 64 - 1) is None
    assert decode(data, SQUARE, formats=("JPEG",)) is None
    with pytest.raises(ImageTooLargeError, match="64 x 64 pixels; the limit is 100"):
        decode(data, SQUARE, max_pixels=100, up_to_pixels=10)
