"""Names for a model's classes."""

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

from weights.conversion.foreign import ConversionError


def class_names(num_classes: int, file: Path | None = None) -> tuple[str, ...]:
    """The names in `file`; without one ImageNet's for 1000 classes, and for any other number the indices.

    Args:
        file: one name a line, or a JSON list of names.

    Raises:
        ConversionError: when the file cannot be read, has another number of names, or one name twice.
    """
    if file is None:
        if num_classes != 1000:
            return tuple(str(index) for index in range(num_classes))
        return tuple(json.loads(files("weights.conversion").joinpath("imagenet-1k-classes.json").read_text("utf-8")))
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ConversionError(f"{file} is not a readable list of class names: {error}") from error
    if not all(isinstance(name, str) and name.strip() for name in names) or len(names) != num_classes:
        raise ConversionError(f"{file}: expected {num_classes} names, none of them empty; found {len(names)} entries")
    stripped = tuple(name.strip() for name in names)
    if twice := next((name for name, count in Counter(stripped).items() if count > 1), None):
        raise ConversionError(f"{file}: {twice!r} is the name of {stripped.count(twice)} classes; give each its own")
    return stripped
