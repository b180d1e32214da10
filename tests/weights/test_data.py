import errno
from pathlib import Path

import numpy as np
import pytest
from images import encode, two_colour_images, two_colour_parquet, write_parquet

from weights.data import DataError, load_images
from weights.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(resize_px=32, crop_px=28)


def test_load_images_parquet_gives_pixels_labels_and_names(tmp_path: Path) -> None:
    path = two_colour_parquet(tmp_path / "train.parquet", 6)
    data = load_images([path], PREPROCESSING)
    images, labels = two_colour_images(6)
    assert np.array_equal(data.images, images)
    assert np.array_equal(data.labels, labels)
    assert data.class_names == ("red", "blue")


def test_load_images_several_parquet_files_are_joined_in_order(tmp_path: Path) -> None:
    files = [two_colour_parquet(tmp_path / f"train-{part}.parquet", 4) for part in range(2)]
    assert len(load_images(files, PREPROCESSING)) == 8
    assert len(load_images([tmp_path], PREPROCESSING)) == 8


def test_load_images_limit_takes_the_first(tmp_path: Path) -> None:
    path = two_colour_parquet(tmp_path / "train.parquet", 6)
    assert load_images([path], PREPROCESSING, limit=3).labels.tolist() == [0, 1, 0]


def test_load_images_full_disk_raises_with_the_size_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    path = two_colour_parquet(tmp_path / "train.parquet", 6)
    with pytest.raises(DataError, match=r"need .* GB in .*No space left on device.*TMPDIR"):
        load_images([path], PREPROCESSING)


def test_load_images_folder_has_one_class_per_subfolder(tmp_path: Path) -> None:
    images, labels = two_colour_images(6)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / ("blue" if label else "red") / "batch"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(encode(image))
    (tmp_path / "red" / "notes.txt").write_text("not an image")
    data = load_images([tmp_path], PREPROCESSING)
    assert data.class_names == ("blue", "red")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(data.images[3], images[0])


def test_load_images_without_names_numbers_the_classes(tmp_path: Path) -> None:
    images, _ = two_colour_images(2)
    path = write_parquet(tmp_path / "a.parquet", [encode(image) for image in images], [0, 2], None)
    assert load_images([path], PREPROCESSING).class_names == ("0", "1", "2")


def test_load_images_native_px_is_the_median_shorter_side_as_stored(tmp_path: Path) -> None:
    sides = [(20, 90), (50, 40), (300, 200)]  # height and width
    encoded = [encode(np.zeros((3, *side), dtype=np.uint8)) for side in sides]
    data = load_images([write_parquet(tmp_path / "p.parquet", encoded, [0, 0, 0], ["a"])], PREPROCESSING)
    assert data.native_px == 40
    assert data.subset(np.array([2])).native_px == 40


def test_load_images_corrupt_row_raises_naming_it(tmp_path: Path) -> None:
    good = encode(two_colour_images(1)[0][0])
    path = write_parquet(tmp_path / "a.parquet", [good, b"not an image"], [0, 1], ["red", "blue"])
    with pytest.raises(DataError, match=r"a\.parquet, row 1 is not a readable image"):
        load_images([path], PREPROCESSING)


def test_load_images_label_beyond_classes_raises(tmp_path: Path) -> None:
    good = encode(two_colour_images(1)[0][0])
    path = write_parquet(tmp_path / "a.parquet", [good], [2], ["red", "blue"])
    with pytest.raises(DataError, match="labels reach from 2 to 2, with 2 classes"):
        load_images([path], PREPROCESSING)


@pytest.mark.parametrize("name", ["missing.parquet", "photo.jpg", "."])
def test_load_images_neither_parquet_nor_folder_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"neither a parquet file nor|no images in"):
        load_images([tmp_path / name], PREPROCESSING)
