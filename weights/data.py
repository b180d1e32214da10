"""Labelled images: from parquet files in the Hugging Face layout, or from a folder of class folders."""

import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track

from weights.preprocessing import Preprocessing

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class DataError(ValueError):
    """Data that cannot be trained on; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Decoded images with their classes.

    Attributes:
        images: uint8, [N, 3, resize_px, resize_px]: the centre square, before any crop.
        labels: int64, [N].
        native_px: median of the shorter sides of the images as they are stored; 0 for images made in memory.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    native_px: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: npt.NDArray[np.int64]) -> "LabelledImages":
        """The given rows, copied."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])


def load_images(paths: Sequence[Path], preprocessing: Preprocessing, *, limit: int | None = None) -> LabelledImages:
    """Decode parquet files, or one folder with a subfolder per class, into a temporary file that is mapped to memory.

    Args:
        limit: only the first so many images.

    Raises:
        DataError: when a path is neither, an image does not decode, classes disagree, or the disk is too full.
    """
    if len(paths) == 1 and paths[0].is_dir() and not list(paths[0].glob("*.parquet")):
        encoded, labels, class_names = _read_folder(paths[0])
    else:
        encoded, labels, class_names = _read_parquet(_parquet_files(paths))
    square = replace(preprocessing, crop_px=preprocessing.resize_px)

    def decode(item: tuple[str, Callable[[], bytes]]) -> tuple[npt.NDArray[np.uint8], int]:
        where, read = item
        try:
            with Image.open(io.BytesIO(read())) as image:
                shorter_px = min(image.size)
                return square.apply(image), shorter_px
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{where} is not a readable image: {error}") from error

    encoded, labels = encoded[:limit], labels[:limit]
    if not encoded:
        raise DataError(f"no images in {', '.join(map(str, paths))}")
    images = _mapped((len(encoded), 3, square.crop_px, square.crop_px))
    shorter_sides_px = np.empty(len(encoded))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = track(pool.map(decode, encoded), total=len(encoded), description="decoding", transient=True)
        for row, (pixels, shorter_px) in enumerate(decoded):
            images[row], shorter_sides_px[row] = pixels, shorter_px
    native_px = round(float(np.median(shorter_sides_px)))
    return LabelledImages(images, np.asarray(labels, dtype=np.int64), class_names, native_px)


def _mapped(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Zeros in an unnamed temporary file: what does not fit into memory stays on the disk."""
    num_bytes = math.prod(shape)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk is a bus error in the middle of the work
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"the decoded images need {num_bytes / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}. "
            "Set TMPDIR to a folder with more space, or use fewer images with --limit"
        ) from error


_Encoded = tuple[list[tuple[str, Callable[[], bytes]]], list[int], tuple[str, ...]]


def _parquet_files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not found or any(file.suffix != ".parquet" or not file.is_file() for file in found):
            raise DataError(f"{path} is neither a parquet file nor a folder of images")
        files.extend(found)
    return files


def _read_parquet(files: Sequence[Path]) -> _Encoded:
    encoded: list[tuple[str, Callable[[], bytes]]] = []
    labels: list[int] = []
    names: tuple[str, ...] | None = None
    for file in files:
        table = pq.read_table(file)
        if not {"image", "label"} <= set(table.column_names):
            raise DataError(f"{file} has columns {table.column_names}, expected 'image' and 'label'")
        found = _class_names(table.schema.metadata)
        if names is not None and found != names:
            raise DataError(f"{file} names other classes than the files before it")
        names = found
        for row, value in enumerate(table.column("image").to_pylist()):
            encoded.append((f"{file}, row {row}", partial(bytes, value["bytes"])))
        labels.extend(table.column("label").to_pylist())
    if not names:
        names = tuple(str(index) for index in range(max(labels, default=-1) + 1))
    if labels and not 0 <= min(labels) <= max(labels) < len(names):
        raise DataError(f"labels reach from {min(labels)} to {max(labels)}, with {len(names)} classes")
    return encoded, labels, names


def _class_names(metadata: dict[bytes, bytes] | None) -> tuple[str, ...]:
    document = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    label = document.get("info", {}).get("features", {}).get("label", {})
    return tuple(label.get("names", ()))


def _read_folder(folder: Path) -> _Encoded:
    encoded: list[tuple[str, Callable[[], bytes]]] = []
    labels: list[int] = []
    classes = sorted(child for child in folder.iterdir() if child.is_dir())
    for label, child in enumerate(classes):
        for file in sorted(child.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                encoded.append((str(file), file.read_bytes))
                labels.append(label)
    return encoded, labels, tuple(child.name for child in classes)
