"""Replaces the files of a model folder together: even after a kill, all files are old or all are new.

New files are written into a draft folder inside the model folder. One rename makes it the folder `.new`; from then on
its files are valid, and they move to their places one by one. The model folder may be a mount point or a link. Its
other files stay.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

CHECKSUMS = "SHA256SUMS"
_COMMITTED, _DRAFT = ".new", ".draft-"


def current(folder: Path, name: str) -> Path:
    """The path of the file with this name: in its place, or still in `.new`."""
    moving = folder / _COMMITTED / name
    return moving if moving.exists() else folder / name


def checksums(folder: Path) -> dict[str, str]:
    """The recorded SHA-256 of the folder's files by name.

    Raises:
        OSError: when they cannot be read.
    """
    return _listed(current(folder, CHECKSUMS))


def sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_stale(folder: Path, name: str) -> bool:
    """Whether the file belongs to the old model and the new model has none of this name."""
    return (folder / _COMMITTED / CHECKSUMS).exists() and name not in checksums(folder)


def is_unused(folder: Path) -> bool:
    """Whether the folder holds nothing but remains of an earlier `replaced`."""
    return all(child.name.startswith(_DRAFT) or child.name == "lost+found" for child in folder.iterdir())


def check_writable(folder: Path) -> None:
    """Try to write into a folder, or into the nearest one above that exists.

    Raises:
        OSError: when that is not possible.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    with TemporaryFile(dir=place) as file:
        file.write(b"1")


@contextmanager
def replaced(folder: Path, unlisted: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield a draft folder; at the end its files replace those that the folder's checksums list, and get checksums.

    Args:
        unlisted: names without a checksum, because users may edit these files.

    Raises:
        OSError: when a file cannot be written or moved; then all old or all new files are valid.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    for left in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(mkdtemp(prefix=_DRAFT, dir=folder))
    try:
        yield draft
        files = sorted(path for path in draft.iterdir() if path.name not in unlisted)
        (draft / CHECKSUMS).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
        for path in [*draft.iterdir(), draft]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path)
        draft.rename(folder / _COMMITTED)
        _sync(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _settle(folder)


def _settle(folder: Path) -> None:
    """Remove the files of the old model that the new one has not, then move the files of `.new` to their places."""
    committed = folder / _COMMITTED
    if not committed.exists():
        return
    if (folder / CHECKSUMS).exists():
        for name in _listed(folder / CHECKSUMS).keys() - checksums(folder).keys():
            (folder / name).unlink(missing_ok=True)
    for path in committed.iterdir():
        path.replace(folder / path.name)
    committed.rmdir()
    _sync(folder)


def _listed(file: Path) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in file.read_text().splitlines())
    return {parts[1].lstrip("*"): parts[0] for parts in lines if len(parts) == 2}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
