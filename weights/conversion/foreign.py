"""Checkpoints of other programs: read without running anything from the file, and checked tensor by tensor."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_CONTAINERS = ("model_state_dict", "state_dict", "model")
_SHOWN = 4


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the text says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file's content.

    Attributes:
        tensors: the weights by their names in the file, without a `module.` prefix; float32, finite, on the CPU. Batch
            counters of batch norms are left out, because no forward pass reads them.
        extras: the file's other entries, unchanged.
        sha256: of the file.
    """

    tensors: dict[str, Tensor]
    extras: dict[str, Any]
    sha256: str

    def shape(self, key: str, ndim: int) -> tuple[int, ...]:
        """Shape of a tensor the architecture is inferred from.

        Raises:
            ConversionError: when it is missing or has another number of dimensions.
        """
        if key not in self.tensors:
            raise ConversionError(f"expected a tensor {key!r}, found {_some(self.tensors)}")
        shape = tuple(self.tensors[key].shape)
        if len(shape) != ndim or min(shape) == 0:
            raise ConversionError(f"{key}: expected {ndim} dimensions, none of them 0, found {list(shape)}")
        return shape


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a PyTorch or safetensors file.

    A PyTorch file holds the weights directly, or under `model_state_dict`, `state_dict` or `model` beside other
    plain data. Unpickling is restricted to tensors and plain containers.

    Raises:
        ConversionError: when the file is missing, truncated, holds anything else, or its weights are not finite.
    """
    if not path.is_file():
        raise ConversionError(f"{path} is not a file")
    document = _document(path)
    container = next((name for name in _CONTAINERS if isinstance(document.get(name), Mapping)), None)
    weights = document if container is None else document[container]
    extras = {} if container is None else {key: value for key, value in document.items() if key != container}
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(_tensors(weights, path), extras, sha256)


def verify(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    """Check that there is every expected tensor with its shape, and no other.

    Raises:
        ConversionError: naming the first few that are missing, too many or of another shape.
    """
    shapes = {key: f"{list(shape)}" for key, shape in expected.items()}
    missing = [f"{key} {shape}" for key, shape in shapes.items() if key not in tensors]
    unknown = [f"{key} {list(value.shape)}" for key, value in tensors.items() if key not in expected]
    wrong = [
        f"{key}: expected {shapes[key]}, found {list(value.shape)}"
        for key, value in tensors.items()
        if key in expected and value.shape != expected[key]
    ]
    complaints = [
        f"{len(keys)} {what} ({_some(keys)})"
        for what, keys in (("missing", missing), ("not expected", unknown), ("of another shape", wrong))
        if keys
    ]
    if complaints:
        raise ConversionError(f"expected {len(expected)} tensors, found {len(tensors)}: {'; '.join(complaints)}")


def _document(path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ConversionError(f"{path} is not a readable safetensors file: {error}") from error
    except Exception as error:  # on foreign bytes the unpickler may raise any exception
        raise ConversionError(
            f"{path} is not a PyTorch checkpoint of tensors and plain data, or it is cut short: {_reason(error)}"
        ) from error
    if not isinstance(document, Mapping):
        raise ConversionError(f"{path}: expected a dictionary of tensors, found {type(document).__name__}")
    return document


def _reason(error: Exception) -> str:
    """The error's text without PyTorch's advice to load the file unprotected."""
    cause = error.__context__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0].split(". ")[0]


def _tensors(weights: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = str(key).removeprefix("module.")
        if name.endswith("num_batches_tracked"):
            continue
        if name in tensors:
            raise ConversionError(f"{path}: {name} is there twice, with and without 'module.'")
        if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
            found = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ConversionError(f"{path}: {name}: expected a tensor of floating point numbers, found {found}")
        tensors[name] = value.detach().to(torch.float32)
        if not tensors[name].isfinite().all():
            raise ConversionError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    return tensors


def _some(keys: Mapping[str, Any] | list[str]) -> str:
    shown = list(keys)[:_SHOWN]
    return ", ".join(shown) + (", …" if len(keys) > len(shown) else "") if shown else "none"
