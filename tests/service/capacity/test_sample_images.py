"""Pictures that decode, differ, and weigh what photographs do."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.capacity.sample_images import SIZES_PX, jpegs_of, sample_jpegs


@pytest.mark.parametrize(("size", "least", "most"), [("small", 1_500, 5_000), ("large", 25_000, 150_000)])
def test_sample_jpegs_are_different_images_as_heavy_as_photographs(size, least, most):
    jpegs = sample_jpegs(size, 3)

    assert len(set(jpegs)) == 3
    assert jpegs == sample_jpegs(size, 3)
    for jpeg in jpegs:
        assert least < len(jpeg) < most
        with Image.open(BytesIO(jpeg)) as image:
            assert (image.format, image.size) == ("JPEG", SIZES_PX[size])


def test_jpegs_of_are_the_images_at_the_size_asked_for():
    red = np.zeros((3, 28, 28), dtype=np.uint8)
    red[0] = 200
    (jpeg,) = jpegs_of([red], "large")

    with Image.open(BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", SIZES_PX["large"])
        assert image.getpixel((10, 10)) == pytest.approx((200, 0, 0), abs=4)
