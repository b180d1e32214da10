import pytest
import torch

from weights.training.augment import Augmentation, augment, random_crop_flip

IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 3, 8, 8)
STRONG = Augmentation(min_scale=0.4, colour=0.4, rotation_deg=15, shear=0.1)


def _drawn(crop_px: int, augmentation: Augmentation, seed: int = 3) -> torch.Tensor:
    return augment(IMAGES, crop_px, augmentation, torch.Generator().manual_seed(seed))


def test_augment_without_distortion_is_a_window_of_the_reflected_image_or_its_mirror() -> None:
    padded = torch.nn.functional.pad(IMAGES.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    seen = set()
    for seed in range(4):
        for image, augmented in zip(padded, _drawn(6, Augmentation(padding_px=2), seed), strict=True):
            windows = [image[:, y : y + 6, x : x + 6] for y in range(7) for x in range(7)]
            mirrored = any(torch.equal(augmented, window.flip(-1)) for window in windows)
            assert mirrored or any(torch.equal(augmented, window) for window in windows)
            seen.add(mirrored)
    assert seen == {True, False}
    still = random_crop_flip(IMAGES, 8, 0, torch.Generator().manual_seed(0), flip=False)
    assert torch.equal(still, IMAGES)


def test_augment_full_scale_resampling_keeps_the_image_or_its_mirror() -> None:
    for seed in range(4):
        for image, augmented in zip(IMAGES.float(), _drawn(8, Augmentation(rotation_deg=1e-6), seed), strict=True):
            assert min((augmented - view).abs().max() for view in (image, image.flip(-1))) < 1e-2


def test_augment_strong_same_seed_same_result_within_range() -> None:
    first, second = _drawn(6, STRONG, 5), _drawn(6, STRONG, 5)
    assert torch.equal(first, second)
    assert first.shape == (2, 3, 6, 6)
    assert 0 <= first.min() <= first.max() <= 255
    assert not torch.equal(first, _drawn(6, STRONG, 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1.5}, "colour must be in"),
        ({"min_scale": 0.0}, "min_scale"),
        ({"shear": -1.0}, "shear must be finite"),
        ({"rotation_deg": float("inf")}, "rotation_deg must be finite"),
    ],
)
def test_augmentation_out_of_range_raises(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)
