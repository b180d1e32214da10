"""Parquet files in the Hugging Face layout: a column `image` of bytes, or of structs with them, and one `label`."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from weights.data.labelled import DataError, EncodedImages

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise DataError("parquet files need pyarrow: pip install 'dynamic-vit-service[train]'") from error


def parquet_files(paths: Iterable[Path]) -> list[Path]:
    """The given files, and the parquet files of given folders.

    Raises:
        DataError: when a path is neither.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if not found or any(file.suffix != ".parquet" or not file.is_file() for file in found):
            raise DataError(f"{path} is not a parquet file; give parquet files, or one folder with a folder per class")
        files.extend(found)
    return files


def read_parquet(files: Sequence[Path]) -> EncodedImages:
    """The rows of all files, in order; labels are class numbers or names.

    Raises:
        DataError: when a file cannot be read, an image or a label is missing, or classes disagree.
    """
    found = EncodedImages([], [], [], ())
    labels: list[Any] = []
    names: tuple[str, ...] | None = None
    for file in files:
        table = _table(file)
        named = _class_names(table.schema.metadata)
        if names is not None and named != names:
            raise DataError(f"{file} names other classes than the files before it")
        names = named
        for row, value in enumerate(table.column("image").to_pylist()):
            data = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise DataError(f"{file}, row {row} holds no image bytes; images must be stored in the file itself")
            found.where.append(f"{file}, row {row}")
            found.read.append(partial(bytes, data))
        labels.extend(table.column("label").to_pylist())
        missing = next((row for row, label in enumerate(labels[-len(table) :]) if label is None), None)
        if len(table) and missing is not None:
            raise DataError(f"{file}, row {missing} has no label; leave such rows out")
    numbers, class_names = _numbered(labels, names or ())
    return EncodedImages(found.where, found.read, numbers, class_names)


def _table(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file} is not a complete parquet file: {str(error).splitlines()[0]}") from error
    if not {"image", "label"} <= set(table.column_names):
        raise DataError(f"{file} has columns {table.column_names}, expected 'image' and 'label'")
    return table


def _class_names(metadata: dict[bytes, bytes] | None) -> tuple[str, ...]:
    document = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    label = document.get("info", {}).get("features", {}).get("label", {})
    return tuple(label.get("names", ()))


def _numbered(labels: list[Any], names: tuple[str, ...]) -> tuple[list[int], tuple[str, ...]]:
    """Class numbers and all names."""
    if labels and all(isinstance(label, str) for label in labels):
        names = names or tuple(sorted(set(labels)))
        if unknown := set(labels) - set(names):
            raise DataError(f"the label {min(unknown)!r} is not among the {len(names)} classes the files name")
        number = {name: index for index, name in enumerate(names)}
        return [number[label] for label in labels], names
    if other := next((label for label in labels if not isinstance(label, int)), None):
        raise DataError(f"labels must be class numbers or class names throughout, found {other!r}")
    names = names or tuple(str(index) for index in range(max(labels, default=-1) + 1))
    if labels and not 0 <= min(labels) <= max(labels) < len(names):
        raise DataError(f"labels reach from {min(labels)} to {max(labels)}, with {len(names)} classes")
    return labels, names
