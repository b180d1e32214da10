from pathlib import Path

import pytest
from images import encode, two_colour_images

from weights.data.folders import read_folder
from weights.data.labelled import DataError

PNG = encode(two_colour_images(1)[0][0])


def photos(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return root


def test_read_folder_has_one_class_per_folder_whatever_lies_below(tmp_path: Path) -> None:
    found = read_folder(photos(tmp_path, "cat/1.png", "cat/more/2.JPG", "dog/3.jfif"))
    assert found.class_names == ("cat", "dog")
    assert found.labels == [0, 0, 1]
    assert [Path(where).name for where in found.where] == ["1.png", "2.JPG", "3.jfif"]
    assert found.notes == []


@pytest.mark.parametrize("junk", [".ipynb_checkpoints/1.png", "__MACOSX/cat/1.png", "cat/._1.png", "dog/.cache/2.png"])
def test_read_folder_junk_is_passed_over(tmp_path: Path, junk: str) -> None:
    found = read_folder(photos(tmp_path, "cat/1.png", "dog/2.png", junk))
    assert (found.class_names, len(found.where), found.notes) == (("cat", "dog"), 2, [])


@pytest.mark.parametrize("part", ["Validation", "test"])
def test_read_folder_train_beside_other_parts_is_read_alone(tmp_path: Path, part: str) -> None:
    names = [f"{folder}/{label}/1.png" for folder in ("train", part) for label in ("cat", "dog")]
    found = read_folder(photos(tmp_path, *names))
    assert found.class_names == ("cat", "dog")
    assert all("/train/" in where for where in found.where)
    assert f"dvt evaluate MODEL {tmp_path / part} --fresh" in found.notes[0]


@pytest.mark.parametrize("outer", ["photos/photos", "train"])
def test_read_folder_one_level_too_many_is_entered(tmp_path: Path, outer: str) -> None:
    assert read_folder(photos(tmp_path / "a", "train/1.png", "tram/1.png")).class_names == ("train", "tram")
    found = read_folder(photos(tmp_path / "b", f"{outer}/cat/1.png", f"{outer}/dog/2.png"))
    assert found.class_names == ("cat", "dog")


def test_read_folder_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    root = photos(tmp_path, "cat/1.png", "dog/2.png", "ship/3.heic", "ship/4.heic", "dog/list", "5.png")
    (root / "zebra").mkdir()
    found = read_folder(root)
    assert found.class_names == ("cat", "dog")
    assert "2 .heic, 1 without a suffix files" in found.notes[0]
    assert "the folders ship, zebra" in found.notes[1]
    assert "1 images directly in" in found.notes[2]


def test_read_folder_flat_or_without_any_image_says_how_it_should_be_or_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 2 images and no folders: put the images of each class into a folder"):
        read_folder(photos(tmp_path / "flat", "1.png", "2.png"))
    with pytest.raises(DataError, match=r"no images in .*1 \.heic files.*folders cat"):
        read_folder(photos(tmp_path / "none", "cat/1.heic"))
