import numpy as np
import pytest
from pictures import pictures

from weights.thumbnails import fingerprints, thumbnails

PICTURES = pictures(300)


@pytest.mark.parametrize("side", [1, 16, 37, 224])
def test_thumbnails_keep_a_plain_colour_exactly(side: int) -> None:
    plain = np.broadcast_to(np.array([0, 131, 255], dtype=np.uint8)[None, :, None, None], (2, 3, side, side))
    assert np.array_equal(thumbnails(plain), np.broadcast_to(plain[:, :, :1, :1], (2, 3, 16, 16)))


def test_thumbnails_of_pictures_of_their_size_are_the_pictures() -> None:
    small = PICTURES[:3, :, 16:32, 16:32]
    assert np.array_equal(thumbnails(small), small)


def test_fingerprints_tell_pictures_apart_however_many_there_are() -> None:
    prints = fingerprints(thumbnails(PICTURES))
    assert len(np.unique(prints)) >= 298
    many = np.concatenate([PICTURES] * 14)  # more than are done at once
    assert np.array_equal(fingerprints(thumbnails(many)), np.tile(prints, 14))
