"""Decodes labelled images into a memory-mapped temporary file."""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from weights.data.folders import read_folder
from weights.data.labelled import DataError, EncodedImages, LabelledImages
from weights.image_files.decode import Decoded, decode
from weights.image_files.errors import ImageTooLargeError, UnreadableImageError
from weights.preprocessing import Preprocessing

_SHOWN_FILES = 5


def load_images(
    paths: Sequence[Path], preprocessing: Preprocessing, *, limit: int | None = None, skip_unreadable: bool = False
) -> LabelledImages:
    """Decode parquet files, or one folder with a folder per class, into a memory-mapped temporary file.

    Args:
        limit: the most images to read, evenly over the classes.
        skip_unreadable: leave out images that cannot be decoded; the notes name them.

    Raises:
        DataError: when a path is neither, an image does not decode, classes disagree, or the disk is too full.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1 image, got {limit}")
    encoded = _encoded(paths)
    if limit is not None:
        encoded = encoded.first(limit)
    if not encoded.where:
        raise DataError(f"no images in {', '.join(map(str, paths))}")
    square = replace(preprocessing, crop_px=preprocessing.resize_px)

    def pixels_of(where: str, read: Callable[[], bytes]) -> Decoded | DataError:
        try:
            decoded = decode(read(), square)
            assert decoded is not None, "nothing is left to another call"
            return decoded
        except (OSError, ImageTooLargeError, UnreadableImageError) as error:
            return DataError(f"{where}: {error}")

    images = _mapped((len(encoded.where), 3, square.crop_px, square.crop_px))
    labels: list[int] = []
    shorter_sides_px: list[int] = []
    unreadable: list[DataError] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(pixels_of, encoded.where, encoded.read)
        shown = track(results, total=len(encoded.where), description="decoding", transient=True)
        for result, label in zip(shown, encoded.labels, strict=True):
            if isinstance(result, Decoded):
                images[len(labels)] = result.pixels
                labels.append(label)
                shorter_sides_px.append(result.shorter_px)
            elif skip_unreadable:
                unreadable.append(result)
            else:
                pool.shutdown(cancel_futures=True)
                raise DataError(f"{result}; --skip-unreadable goes on without such files")
    if not labels:
        raise DataError(f"none of the {len(unreadable)} images can be read: {unreadable[0]}")
    return LabelledImages(
        images[: len(labels)],
        np.asarray(labels, dtype=np.int64),
        encoded.class_names,
        native_px=round(float(np.median(shorter_sides_px))),
        notes=(*encoded.notes, *_note(unreadable)),
    )


def _encoded(paths: Sequence[Path]) -> EncodedImages:
    folders = [path for path in paths if path.is_dir() and not list(path.glob("*.parquet"))]
    if not folders:
        from weights.data.parquet import parquet_files, read_parquet  # needs pyarrow, which is an extra

        return read_parquet(parquet_files(paths))
    if len(paths) > 1:
        raise DataError(
            f"{len(paths)} paths were given, {folders[0]} among them: give one folder with a folder per class, or "
            "parquet files alone"
        )
    return read_folder(paths[0])


def _mapped(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Zeros in an unnamed temporary file; data that does not fit into memory stays on disk."""
    num_bytes = math.prod(shape)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # On a full disk, a later write would end the process (SIGBUS).
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"the decoded images need {num_bytes / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}. "
            "Set TMPDIR to a folder with more space, or use fewer images with --limit"
        ) from error


def _note(unreadable: Sequence[DataError]) -> list[str]:
    if not unreadable:
        return []
    shown = "; ".join(map(str, unreadable[:_SHOWN_FILES]))
    more = f"; and {len(unreadable) - _SHOWN_FILES:,} more" if len(unreadable) > _SHOWN_FILES else ""
    return [f"left out: {len(unreadable):,} images that cannot be read: {shown}{more}"]
