import pytest
import torch

from weights.training.augment import Augmentation, augment, random_crop_flip


def _images() -> torch.Tensor:
    return torch.arange(2 * 3 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 3, 8, 8)


def test_random_crop_flip_without_room_is_the_image_or_its_mirror() -> None:
    images, seen = _images(), set()
    for seed in range(8):
        result = random_crop_flip(images, 8, 0, torch.Generator().manual_seed(seed))
        for image, augmented in zip(images, result, strict=True):
            mirrored = torch.equal(augmented, image.flip(-1))
            assert mirrored or torch.equal(augmented, image)
            seen.add(mirrored)
    assert seen == {True, False}


def test_random_crop_flip_each_row_is_a_window_of_its_reflected_image() -> None:
    images = _images()
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    result = random_crop_flip(images, 6, 2, torch.Generator().manual_seed(3))
    for image, augmented in zip(padded, result, strict=True):
        windows = [image[:, y : y + 6, x : x + 6] for y in range(7) for x in range(7)]
        assert any(torch.equal(augmented, view) for window in windows for view in (window, window.flip(-1)))


STRONG = Augmentation(min_scale=0.4, colour=0.4, rotation_deg=15, shear=0.1)


def test_augment_without_distortion_is_crop_and_flip() -> None:
    plain = Augmentation(padding_px=2)
    augmented = augment(_images(), 6, plain, torch.Generator().manual_seed(3))
    assert torch.equal(augmented, random_crop_flip(_images(), 6, 2, torch.Generator().manual_seed(3)))


def test_augment_full_scale_resampling_keeps_the_image_or_its_mirror() -> None:
    still = Augmentation(rotation_deg=1e-6)
    for seed in range(4):
        result = augment(_images(), 8, still, torch.Generator().manual_seed(seed))
        for image, augmented in zip(_images().float(), result, strict=True):
            errors = [(augmented - view).abs().max() for view in (image, image.flip(-1))]
            assert min(errors) < 1e-2


def test_augment_strong_same_seed_same_result_within_range() -> None:
    first, second = (augment(_images(), 6, STRONG, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 3, 6, 6)
    assert 0 <= first.min() <= first.max() <= 255
    assert not torch.equal(first, augment(_images(), 6, STRONG, torch.Generator().manual_seed(6)))


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
