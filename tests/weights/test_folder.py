import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from weights import folder as module
from weights.folder import check_writable, checksums, current, is_stale, is_unused, replaced, sha256


class KilledError(BaseException):
    """Stands for a kill: nothing of the code that would clean up runs."""


def write(folder: Path, **contents: str) -> None:
    with replaced(folder, unlisted=("card",)) as draft:
        for name, text in contents.items():
            (draft / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    """What counts, with every checksum verified."""
    sums = checksums(folder)
    for name, digest in sums.items():
        assert sha256(current(folder, name)) == digest
    names = [*sums, *(["table"] if (folder / "table").exists() and not is_stale(folder, "table") else [])]
    return {name: current(folder, name).read_text() for name in names}


def kill_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The operation of this number on the file system is the last."""
    seen = 0

    def killing(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen > count:
                raise KilledError
            return operation(*args, **options)

        return run

    for name in ("rename", "replace", "rmdir", "unlink", "chmod"):
        monkeypatch.setattr(Path, name, killing(getattr(Path, name)))
    monkeypatch.setattr(module.os, "fsync", killing(lambda _: None))
    monkeypatch.setattr(module.shutil, "rmtree", killing(shutil.rmtree))


@pytest.fixture(params=["plain", "link", "mount point"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "model"
    if request.param == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to("elsewhere")
    if request.param == "mount point":
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False).returncode:
            pytest.skip("mounting needs root")
    yield place
    if request.param == "mount point":
        subprocess.run(["umount", place], check=True)


def test_replaced_killed_anywhere_leaves_all_old_or_all_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = {"a": "old", "b": "old", "table": "old"}, {"a": "new", "b": "new", "c": "new"}
    outcomes = []
    for count in range(100):
        write(folder, **old)
        with monkeypatch.context() as patched:
            kill_at(patched, count)
            try:
                write(folder, **new)
                break
            except KilledError:
                pass
        outcomes.append(read(folder))
        assert outcomes[-1] in (old, new)
    assert old in outcomes
    assert new in outcomes
    assert read(folder) == new
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "a", "b", "c"]


def test_replaced_killed_twice_leaves_one_whole_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, versions = tmp_path / "model", ({"a": "1", "table": "1"}, {"a": "2", "b": "2"}, {"a": "3", "c": "3"})
    ends = set()
    for first in range(20):
        for second in range(20):
            write(folder, **versions[0])
            for count, version in zip((first, second), versions[1:], strict=True):
                with monkeypatch.context() as patched, suppress(KilledError):
                    kill_at(patched, count)
                    write(folder, **version)
            ends.add(versions.index(read(folder)))
    assert ends == {0, 1, 2}


def test_replaced_after_a_kill_nothing_is_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        kill_at(patched, 1)
        with pytest.raises(KilledError):
            write(tmp_path / "model", a="first")
    assert is_unused(tmp_path / "model")
    write(tmp_path / "model", a="second", card="text")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["SHA256SUMS", "a", "card"]
    assert list(checksums(tmp_path / "model")) == ["a"]


def test_replaced_writer_that_fails_leaves_the_old_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, a="old")
    assert not is_unused(tmp_path)
    with pytest.raises(TypeError):
        write(tmp_path, a="new", b=None)  # type: ignore[arg-type]
    assert read(tmp_path) == {"a": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "a", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_checksums_of_a_binary_mode_list_are_read(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text("abc *a\n\ndef  b c\n")
    assert checksums(tmp_path) == {"a": "abc", "b c": "def"}


def test_check_writable_place_that_does_not_exist_is_tried_above(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []
