"""Reads a folder with a folder per class in the usual layouts; files that are left out are counted."""

from collections import Counter
from pathlib import Path

from weights.data.labelled import DataError, EncodedImages
from weights.image_files.reduce import FORMATS, SUFFIXES

_TRAIN = ("train", "training")
_OTHER_PARTS = ("val", "valid", "validation", "dev", "test", "testing")
_JUNK = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"})


def read_folder(folder: Path) -> EncodedImages:
    """The images of the class folders in `folder`, or of those in its `train` folder or its only folder.

    Hidden files and files of operating systems are skipped.

    Raises:
        DataError: when there are no class folders with images.
    """
    notes: list[str] = []
    root = _root(folder, notes)
    found = EncodedImages([], [], [], (), notes)
    class_names: list[str] = []
    empty: list[str] = []
    skipped = Counter[str]()
    for child in _folders(root):
        files = _files(child)
        images = [file for file in files if file.suffix.lower() in SUFFIXES]
        skipped.update(file.suffix.lower() or "without a suffix" for file in files)
        skipped.subtract(file.suffix.lower() for file in images)
        if not images:
            empty.append(child.name)
            continue
        for file in images:
            found.where.append(str(file))
            found.read.append(file.read_bytes)
            found.labels.append(len(class_names))
        class_names.append(child.name)
    if counts := [f"{count:,} {kind}" for kind, count in skipped.most_common() if count]:
        notes.append(f"left out: {', '.join(counts)} files, which have none of the formats {', '.join(FORMATS)}")
    if empty:
        notes.append(f"left out: the folders {', '.join(empty)}, which hold no image that is read")
    if not class_names:
        raise DataError("; ".join([f"no images in {root}", *notes]))
    loose = sum(file.suffix.lower() in SUFFIXES for file in root.iterdir() if file.is_file())
    if loose:
        notes.append(f"left out: {loose:,} images directly in {root}, which belong to no class")
    return EncodedImages(found.where, found.read, found.labels, tuple(class_names), notes)


def _root(folder: Path, notes: list[str]) -> Path:
    """The folder that contains the class folders."""
    children = {child.name.lower(): child for child in _folders(folder)}
    if not children:
        count = sum(file.suffix.lower() in SUFFIXES for file in folder.iterdir())
        raise DataError(
            f"{folder} holds {count:,} images and no folders: put the images of each class into a folder of its own, "
            f"{folder / 'NAME_OF_THE_CLASS'}"
        )
    train = next((children[name] for name in _TRAIN if name in children), None)
    others = [name for name in children if name in _OTHER_PARTS]
    if train is not None and others and len(children) == 1 + len(others):
        notes.append(
            f"read: {train} alone, from which held-out images are drawn; judge on {', '.join(others)} with "
            f"`dvt evaluate MODEL {children[others[0]]} --fresh`"
        )
        return train
    only = next(iter(children.values()))
    if len(children) == 1 and _folders(only) and not any(file.is_file() for file in _visible(only)):
        return _root(only, notes)
    return folder


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in _visible(folder) if child.is_dir())


def _files(folder: Path) -> list[Path]:
    """All files below, in order."""
    files: list[Path] = []
    for child in sorted(_visible(folder)):
        if child.is_dir() and not child.is_symlink():
            files.extend(_files(child))
        elif child.is_file():
            files.append(child)
    return files


def _visible(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.name[:1] != "." and child.name.lower() not in _JUNK]
