"""Pictures that decode, differ, and weigh what photographs do."""

from io import BytesIO

import pytest
from PIL import Image

from service.capacity.sample_images import SIZES_PX, sample_jpegs


@pytest.mark.parametrize(("size", "least", "most"), [("small", 1_500, 5_000), ("large", 25_000, 150_000)])
def test_sample_jpegs_are_different_images_as_heavy_as_photographs(size, least, most):
    jpegs = sample_jpegs(size, 3)

    assert len(set(jpegs)) == 3
    assert jpegs == sample_jpegs(size, 3)
    for jpeg in jpegs:
        assert least < len(jpeg) < most
        with Image.open(BytesIO(jpeg)) as image:
            assert (image.format, image.size) == ("JPEG", SIZES_PX[size])
