import os
from io import BytesIO
from types import SimpleNamespace

from service.commands import files
from service.commands.files import expanded, read, shown


def test_expanded_folder_is_the_images_in_and_below_it_in_order(tmp_path) -> None:
    for name in ("b/2.JPG", "b/1.tiff", "a/x.png", "z.webp", "notes.txt", "b/.3.gif.part", "b/._2.JPG", ".trash/y.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()

    found = [os.path.relpath(source, tmp_path) for source in expanded([str(tmp_path)])]
    assert found == ["z.webp", "a/x.png", "b/1.tiff", "b/2.JPG"]


def test_expanded_what_is_no_folder_of_images_stays_and_says_so(tmp_path) -> None:
    sources = ["-", "missing.png", str(tmp_path), "-"]

    assert expanded(sources) == sources
    assert str(read(str(tmp_path), 10)).startswith("the folder holds no image (.bmp, ")


def test_expanded_folder_that_cannot_be_looked_into_is_named_beside_the_others(tmp_path, monkeypatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "image.png").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    image, closed = expanded([str(tmp_path)])
    assert (image, closed) == (str(tmp_path / "image.png"), str(tmp_path / "closed"))
    assert str(read(closed, 10)) == "the file cannot be read: Permission denied"


def test_read_is_no_longer_than_allowed(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    monkeypatch.setattr(files.sys, "stdin", SimpleNamespace(buffer=BytesIO(b"9876543210")))

    assert read(str(tmp_path / "file"), 3) == b"012"
    assert read("-", 3) == b"987"


def test_shown_escapes_what_is_not_utf8() -> None:
    assert shown(os.fsdecode(b"caf\xe9 \xc3\xa9.png")) == "caf\\xe9 é.png"
