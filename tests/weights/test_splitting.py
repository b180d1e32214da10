import hashlib

import numpy as np
import pytest
from pictures import pictures, recoded, resized

from weights.data import DataError
from weights.splitting import default_holdout, draw, split, split_by_position

PICTURES = pictures(1000, side=32)


def _sides(images: np.ndarray, holdout: float = 0.2, seed: int = 0) -> np.ndarray:
    """0 training, 1 calibration, 2 test, 3 left out."""
    parts, sides = draw(images, holdout, seed), np.full(len(images), -1)
    for side, rows in enumerate((parts.train, parts.calibration, parts.test, parts.near_duplicates)):
        assert (sides[rows] == -1).all()
        sides[rows] = side
    assert (sides >= 0).all()
    return sides


def test_split_shares_are_about_those_asked_for_and_another_seed_draws_anew() -> None:
    counts = np.bincount(_sides(PICTURES), minlength=4)
    # Three standard deviations of a draw of 1,000.
    assert counts[1] == pytest.approx(100, abs=28)
    assert counts[2] == pytest.approx(100, abs=28)
    assert counts[3] == 0
    held_out = [set(np.flatnonzero(_sides(PICTURES, seed=seed))) for seed in (0, 1)]
    assert len(held_out[0] & held_out[1]) == pytest.approx(40, abs=20)  # a fifth of a fifth
    assert set(np.flatnonzero(_sides(PICTURES, 0.1))) < set(np.flatnonzero(_sides(PICTURES, 0.3)))


def test_split_of_other_order_and_of_a_part_is_the_same_image_by_image() -> None:
    sides = _sides(PICTURES)
    order = np.random.default_rng(1).permutation(len(PICTURES))
    assert np.array_equal(_sides(PICTURES[order]), sides[order])
    assert np.array_equal(_sides(PICTURES[300:450]), sides[300:450])


def test_split_recoded_resized_and_mirrored_pictures_stay_on_their_side() -> None:
    sides = _sides(PICTURES)
    for changed, share in (
        (recoded(PICTURES, 75), 0.97),
        (resized(PICTURES, 56), 0.98),
        (PICTURES[..., ::-1], 1.0),
    ):
        assert (_sides(changed) == sides).mean() >= share


def test_split_near_duplicates_are_left_out_of_the_held_out_parts() -> None:
    # Tinted and cut enough for another fingerprint here and there, yet nearly the same pictures.
    generator = np.random.default_rng(0)
    cut = resized(PICTURES[:, :, 1:, 1:], 32)
    tinted = np.clip(cut * generator.uniform(0.7, 1, (1000, 3, 1, 1)), 0, 255).astype(np.uint8)
    both = np.concatenate([PICTURES, tinted])
    drawn, sides = np.concatenate([_sides(PICTURES), _sides(tinted)]).reshape(2, -1), _sides(both).reshape(2, -1)
    assert np.array_equal(sides == 0, drawn == 0)
    for first, second, kept in ((1, 0, 3), (2, 0, 3), (2, 1, 3), (1, 1, 1), (2, 2, 2)):
        pairs = (drawn[0] == first) & (drawn[1] == second)
        assert (sides[0][pairs] == kept).mean() > 0.9, (first, second)
    assert ((drawn[0] > 0) & (drawn[1] == 0)).sum() > 5  # there were such pairs


@pytest.mark.parametrize(
    ("count", "holdout", "message"),
    [
        (1000, 0.0, "holdout must be between 0 and 1"),
        (20, 0.001, r"holdout 0\.001 of 20 images.*part empty: use more images"),
    ],
)
def test_split_impossible_holdout_raises_saying_what_to_do(count: int, holdout: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(PICTURES[:count], holdout, 0)


@pytest.mark.parametrize(("num_images", "held_out"), [(0, 0), (40, 12), (200, 40), (50_000, 5000)])
def test_default_holdout_holds_out_forty_where_it_can(num_images: int, held_out: int) -> None:
    assert num_images * default_holdout(num_images) == pytest.approx(held_out, abs=0.2)


def test_split_small_folder_with_the_default_holdout_leaves_no_part_empty() -> None:
    for start in range(0, 1000, 40):
        split(PICTURES[start : start + 40], default_holdout(40), 0)


def test_split_by_position_of_the_shipped_models_is_what_it_was() -> None:
    parts = split_by_position(np.arange(50_000) * 7919 % 10, 0.1, seed=0)
    assert (len(parts.train), len(parts.calibration), len(parts.test)) == (45_000, 2_500, 2_500)
    assert hashlib.sha256(parts.test.astype("<i8").tobytes()).hexdigest()[:16] == "510b318ca001f4d1"
    other = split_by_position(np.arange(50_000) * 7919 % 10, 0.1, seed=1)
    assert not np.array_equal(other.test, parts.test)


@pytest.mark.parametrize("holdout", [0.0, 0.01])
def test_split_by_position_impossible_holdout_raises(holdout: float) -> None:
    with pytest.raises(DataError, match="holdout"):
        split_by_position(np.repeat(np.arange(4), 5), holdout, seed=0)
