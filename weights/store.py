"""The on-disk model: a folder of `config.json`, `model.safetensors`, `README.md` and their checksums.

`calibration.safetensors` exists after calibration: it holds every exit's confidence on held-out images.
Tensors that are equal are stored once; the metadata of `model.safetensors` names the others under `aliases`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.cascade import Cascade
from weights.calibration.table import CalibrationTable
from weights.card import CARD, is_edited, signed
from weights.folder import CHECKSUMS, checksums, current, is_unused, replaced, sha256
from weights.folder import check_writable as check_place
from weights.manifest import (
    CALIBRATION,
    CONFIG,
    Manifest,
    ModelFormatError,
    NamedOperatingPoint,
    calibration_path,
    find,
    is_model,
    read_calibration,
    read_manifest,
    shipped_models,
)

__all__ = [
    "Manifest",
    "ModelFormatError",
    "NamedOperatingPoint",
    "StoredModel",
    "check_writable",
    "find",
    "load",
    "load_model",
    "round_to_half",
    "save",
    "shipped_models",
]

_TENSORS, _OTHER_CARD = "model.safetensors", "README.generated.md"
_POINTER = b"version https://git-lfs"
_SHOWN_DETAILS = 300
_ALIASES = "aliases"
_DIGEST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model read from disk.

    Attributes:
        cascade: in eval mode, float32, on the CPU.
        path: the folder it came from.
        calibration: the calibration table; None for a model that was never calibrated.
    """

    manifest: Manifest
    cascade: Cascade
    path: Path
    calibration: CalibrationTable | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the weights' file."""
        return sha256(current(self.path, _TENSORS))

    @property
    def calibration_digest(self) -> str:
        """A digest of weights, temperatures and calibration table: thresholds belong to it.

        Made of the checksums that `load` has verified; no large file is read.
        """
        sums = checksums(self.path)
        decisive = [sums.get(_TENSORS), sums.get(CALIBRATION), self.manifest.temperatures]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:_DIGEST_LENGTH]


def load(name_or_path: str | Path) -> StoredModel:
    """Read a model after verifying its checksums.

    Raises:
        ModelFormatError: when a file is missing, altered or does not fit the architecture.
    """
    folder = find(name_or_path)
    _verify(folder)
    manifest = read_manifest(folder)
    cascade = Cascade(manifest.architecture)
    try:
        cascade.load_state_dict(_read_tensors(current(folder, _TENSORS)))  # half precision becomes float32
    except (RuntimeError, SafetensorError) as error:
        details = " ".join(str(error).split())[:_SHOWN_DETAILS]
        raise ModelFormatError(
            f"{folder / _TENSORS} does not hold this architecture, which {CONFIG} describes; both must be of one "
            f"model: {details}"
        ) from error
    return StoredModel(manifest, cascade.eval(), folder, read_calibration(folder, manifest))


def load_model(name_or_path: str | Path) -> Cascade:
    """The cascade in eval mode: called on preprocessed images [B, 3, S, S] it returns all exits' logits.

    Raises:
        ModelFormatError: as `load`.
    """
    return load(name_or_path).cascade


def check_writable(folder: Path) -> None:
    """Check that a model can be written to `folder`, before the long work starts.

    Raises:
        ModelFormatError: when `folder` is in use for something else, or cannot be written.
    """
    try:
        if folder.exists() and not (folder.is_dir() and (is_model(folder) or is_unused(folder))):
            raise ModelFormatError(f"{folder} exists and is not a model folder; it is left alone")
        check_place(folder)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error


def save(
    folder: Path,
    cascade: Cascade,
    manifest: Manifest,
    card: str | None,
    calibration: CalibrationTable | None = None,
) -> None:
    """Write a model as a whole or not at all. It replaces a model in the folder; other files stay.

    Args:
        card: None keeps the old card. If the old card was edited, it stays too, and this one is written beside it.

    Raises:
        ModelFormatError: when `folder` is in use for something else, or cannot be written.
    """
    check_writable(folder)
    try:
        with replaced(folder, unlisted=(CARD, _OTHER_CARD)) as draft:
            (draft / CONFIG).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
            _write_tensors({key: _compact(value) for key, value in cascade.state_dict().items()}, draft / _TENSORS)
            if calibration is not None:
                calibration.save(draft / CALIBRATION)
            if card is not None:
                (draft / (_OTHER_CARD if is_edited(folder / CARD) else CARD)).write_text(signed(card))
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error.strerror}") from error


def round_to_half(cascade: Cascade) -> None:
    """Round kernels and matrices to half precision, in place; this halves their size on disk.

    Norms and biases are few and stay unchanged, and so does a matrix with values beyond half precision's 65504.
    """
    with torch.no_grad():
        for weight in cascade.parameters():
            if weight.ndim >= 2 and weight.abs().amax() <= torch.finfo(torch.float16).max:
                weight.copy_(weight.half())


def _compact(value: Tensor) -> Tensor:
    """The tensor in half precision if that is exact, else unchanged."""
    half = value.half()
    lossless = value.dtype == torch.float32 and torch.equal(half.float(), value)
    return (half if lossless else value).contiguous()


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Save equal tensors once, under the first of their names."""
    first: dict[object, str] = {}
    aliases = {}
    for key, value in tensors.items():
        content = hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
        original = first.setdefault((value.dtype, value.shape, content), key)
        if original != key:
            aliases[key] = original
    stored = {key: value for key, value in tensors.items() if key not in aliases}
    save_file(stored, path, {_ALIASES: json.dumps(aliases)} if aliases else None)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name, aliases included.

    Raises:
        ModelFormatError: when the list of aliases is not valid.
    """
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
        listed = (file.metadata() or {}).get(_ALIASES, "{}")
    try:
        aliases = json.loads(listed)
    except ValueError as error:
        raise ModelFormatError(f"{path}: {_ALIASES} is not JSON: {error}") from error
    if not isinstance(aliases, dict):
        raise ModelFormatError(f"{path}: {_ALIASES} must be an object of names, found {type(aliases).__name__}")
    for alias, original in aliases.items():
        if alias in stored:
            raise ModelFormatError(f"{path}: {alias} is stored and an alias of {original} as well")
        if not isinstance(original, str) or original not in stored:
            raise ModelFormatError(f"{path}: {alias} is an alias of {original!r}, which is not stored")
    return stored | {alias: stored[original] for alias, original in aliases.items()}


def _verify(folder: Path) -> None:
    for name in (CHECKSUMS, CONFIG, _TENSORS):
        if not current(folder, name).is_file():
            raise ModelFormatError(f"{folder} has no {name}")
    sums = checksums(folder)
    for name in (CONFIG, _TENSORS, *([CALIBRATION] if calibration_path(folder) else [])):
        path = current(folder, name)
        found = sha256(path)
        if sums.get(name) != found:
            raise ModelFormatError(f"{path}: sha256 is {found}, {CHECKSUMS} says {sums.get(name)}: {_cause(path)}")


def _cause(path: Path) -> str:
    """The reason why a file failed verification."""
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        return "this is a pointer of git-lfs, not the file itself; run `git lfs pull`"
    if path.name == CONFIG:
        return "the file was changed; thresholds are changed with PUT /config or `dvt calibrate`, not here"
    return "the file is damaged or from another model; copy the whole folder anew"
