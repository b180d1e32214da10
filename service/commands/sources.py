"""What `dvt classify` is given: files, folders of images, and `-` for standard input."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from service.errors import UndecodableImageError
from weights.image_files.reduce import SUFFIXES

STDIN = "-"


def expanded(sources: Iterable[str]) -> list[str]:
    """The sources with the images in and below it in the place of each folder, in order of their names.

    A folder that holds none, or cannot be looked into, stays; `read` says why it has no image.
    """
    return [file for source in sources for file in (_images_below(source) if os.path.isdir(source) else [source])]


def read(source: str, max_bytes: int) -> bytes:
    """What a source holds, as far as its first bytes.

    Raises:
        UndecodableImageError: it cannot be read.
    """
    try:
        if source == STDIN:
            return sys.stdin.buffer.read(max_bytes)
        if os.path.isdir(source):
            os.scandir(source).close()
            raise UndecodableImageError(f"the folder holds no image ({', '.join(sorted(SUFFIXES))})")
        with open(source, "rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        raise UndecodableImageError(f"the file cannot be read: {error.strerror}") from error


def shown(source: str) -> str:
    """The source's name with those bytes escaped that are not UTF-8."""
    return os.fsencode(source).decode(errors="backslashreplace")


def _images_below(folder: str) -> list[str]:
    found: list[str] = []
    refused: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = (name for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."))
        found += sorted(os.path.join(place, name) for name in images)
    return [*found, *(error.filename for error in refused)] or [folder]
