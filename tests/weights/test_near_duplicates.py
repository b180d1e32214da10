import numpy as np
from pictures import pictures, recoded

from weights.near_duplicates import near_duplicates
from weights.thumbnails import thumbnails

PICTURES = pictures(60)


def _share(images: np.ndarray, others: np.ndarray) -> float:
    return float(near_duplicates(thumbnails(images), thumbnails(others)).mean())


def test_near_duplicates_are_found_recoded_brightened_mirrored_and_moved() -> None:
    changed = recoded(np.clip(PICTURES * 0.8 + 30, 0, 255).astype(np.uint8), 70)
    assert _share(changed, PICTURES) == 1.0
    assert _share(changed[..., ::-1], PICTURES) == 1.0
    assert _share(PICTURES[..., 1:, 1:], PICTURES[..., :-1, :-1]) == 1.0
    many = np.concatenate([pictures(3000, side=16, seed=1), PICTURES[:, :, ::3, ::3]])  # than are compared at once
    assert _share(PICTURES[:, :, ::3, ::3], many) == 1.0


def test_near_duplicates_among_different_pictures_and_skies_are_none() -> None:
    assert _share(PICTURES, pictures(500, seed=1)) == 0.0
    assert _share(PICTURES, PICTURES[:0]) == 0.0
    # Brighter towards the horizon, with the noise of a camera.
    generator = np.random.default_rng(0)
    top, slope = generator.uniform(60, 140, (200, 3, 1, 1)), generator.uniform(40, 100, (200, 3, 1, 1))
    skies = top + slope * np.linspace(0, 1, 32)[:, None] + generator.normal(0, 2, (200, 3, 32, 32))
    skies = np.clip(skies, 0, 255).astype(np.uint8)
    assert _share(skies[:100], skies[100:]) == 0.0
