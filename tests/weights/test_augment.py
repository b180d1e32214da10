import torch

from weights.augment import centre_crop, normalise, random_crop_flip


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


def test_random_crop_flip_same_seed_same_result() -> None:
    first, second = (random_crop_flip(_images(), 6, 2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_centre_crop_takes_the_middle() -> None:
    assert torch.equal(centre_crop(_images(), 4), _images()[..., 2:6, 2:6])


def test_normalise_uint8_equals_formula() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (_images() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalise(_images(), mean, std), expected)
