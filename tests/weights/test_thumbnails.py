import numpy as np
import pytest
from pictures import pictures, recoded, resized

from weights.thumbnails import fingerprints, thumbnails

PICTURES = pictures(300)


def _same(images: np.ndarray) -> float:
    return float((fingerprints(thumbnails(images)) == fingerprints(thumbnails(PICTURES))).mean())


@pytest.mark.parametrize("side", [1, 8, 16, 28, 37, 56, 224])
def test_thumbnails_keep_a_plain_colour_exactly(side: int) -> None:
    plain = np.broadcast_to(np.array([0, 131, 255], dtype=np.uint8)[None, :, None, None], (2, 3, side, side))
    assert np.array_equal(thumbnails(plain), np.broadcast_to(plain[:, :, :1, :1], (2, 3, 16, 16)))


def test_thumbnails_of_a_multiple_of_its_side_are_the_picture() -> None:
    small = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16)).astype(np.uint8)
    assert np.array_equal(thumbnails(small), small)


def test_fingerprints_hardly_ever_change_with_encoding_and_size_and_never_with_mirroring() -> None:
    assert _same(PICTURES[..., ::-1]) == 1.0
    assert _same(recoded(PICTURES, 95)) >= 0.97
    assert _same(recoded(PICTURES, 60)) >= 0.93
    assert _same(resized(PICTURES, 72)) >= 0.95
    assert _same(resized(PICTURES, 31)) >= 0.93


def test_fingerprints_tell_different_pictures_apart() -> None:
    assert len(np.unique(fingerprints(thumbnails(PICTURES)))) >= 298


def test_fingerprints_of_many_images_are_those_of_each() -> None:
    many = np.concatenate([PICTURES[:, :, ::3, ::3]] * 14)  # more than are done at once
    prints = fingerprints(thumbnails(many))
    assert np.array_equal(prints, np.tile(fingerprints(thumbnails(many[:300])), 14))
