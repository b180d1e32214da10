import errno
from pathlib import Path

import numpy as np
import pytest
from images import encode, two_colour_images, two_colour_parquet, write_parquet
from PIL import Image

from weights.data import DataError, load_images
from weights.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(resize_px=32, crop_px=28)
PNG = encode(two_colour_images(1)[0][0])


def test_load_images_parquet_files_give_pixels_labels_and_names_joined_in_order(tmp_path: Path) -> None:
    files = [two_colour_parquet(tmp_path / f"train-{part}.parquet", count) for part, count in enumerate((6, 4))]
    images, labels = (np.concatenate(parts) for parts in zip(two_colour_images(6), two_colour_images(4), strict=True))
    for paths in (files, [tmp_path]):
        data = load_images(paths, PREPROCESSING)
        assert np.array_equal(data.images, images)
        assert np.array_equal(data.labels, labels)
        assert data.class_names == ("red", "blue")
    assert len(load_images(files, PREPROCESSING, limit=3)) == 3
    with pytest.raises(DataError, match="limit must be at least 1 image, got 0"):
        load_images(files, PREPROCESSING, limit=0)


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


def test_load_images_native_px_is_the_median_shorter_side_as_stored(tmp_path: Path) -> None:
    sides = [(20, 90), (50, 40), (300, 200)]  # height and width
    encoded = [encode(np.zeros((3, *side), dtype=np.uint8)) for side in sides]
    data = load_images([write_parquet(tmp_path / "p.parquet", encoded, [0, 0, 0], ["a"])], PREPROCESSING)
    assert data.native_px == 40
    assert data.subset(np.array([2])).native_px == 40


@pytest.mark.parametrize(
    ("encoded", "labels", "message"),
    [
        ([PNG, b"not an image"], [0, 1], r"a\.parquet, row 1: not an image.*--skip-unreadable"),
        ([PNG], [2], "labels reach from 2 to 2, with 2 classes"),
    ],
)
def test_load_images_unusable_row_raises_naming_it(
    tmp_path: Path, encoded: list[bytes], labels: list[int], message: str
) -> None:
    path = write_parquet(tmp_path / "a.parquet", encoded, labels, ["red", "blue"])
    with pytest.raises(DataError, match=message):
        load_images([path], PREPROCESSING)


def test_load_images_skip_unreadable_goes_on_and_lists_them(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [b"bad", PNG, b"", PNG], [0, 1, 0, 0], ["red", "blue"])
    data = load_images([path], PREPROCESSING, skip_unreadable=True)
    assert data.labels.tolist() == [1, 0]
    assert data.images.shape[0] == 2
    for text in ("2 images that cannot be read", "row 0: not an image", "row 2: the image is empty"):
        assert text in data.notes[0]
    path = write_parquet(tmp_path / "a.parquet", [b"bad"], [0], ["red"])
    with pytest.raises(DataError, match="none of the 1 images can be read"):
        load_images([path], PREPROCESSING, skip_unreadable=True)


def test_load_images_bomb_or_two_folders_raises_naming_them(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "cat" / "huge.png")
    with pytest.raises(DataError, match=r"huge\.png: .*9000 x 9000 pixels; the limit is 50000000"):
        load_images([tmp_path], PREPROCESSING)
    with pytest.raises(DataError, match=r"2 paths were given.*give one folder"):
        load_images([tmp_path, tmp_path / "cat"], PREPROCESSING)
