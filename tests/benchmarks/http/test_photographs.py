"""Real images as JPEG files."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmarks.http.photographs import jpegs_of
from service.capacity.sample_images import SIZES_PX


def test_jpegs_of_are_the_images_at_the_size_asked_for():
    red = np.zeros((3, 28, 28), dtype=np.uint8)
    red[0] = 200
    (jpeg,) = jpegs_of([red], "large")

    with Image.open(BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", SIZES_PX["large"])
        assert image.getpixel((10, 10)) == pytest.approx((200, 0, 0), abs=4)
