"""The on-disk model: a folder of `config.json`, `model.safetensors`, `README.md` and their checksums.

`calibration.safetensors` is there once held-out images were seen: what any thresholds would do to them.
Tensors that are equal are stored once; the metadata of `model.safetensors` names the others under `aliases`.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.cascade import Cascade
from weights.calibration.table import CalibrationTable
from weights.manifest import (
    CALIBRATION,
    CONFIG,
    Manifest,
    ModelFormatError,
    OperatingPoint,
    find,
    read_calibration,
    read_manifest,
    shipped_models,
)

__all__ = [
    "Manifest",
    "ModelFormatError",
    "OperatingPoint",
    "StoredModel",
    "check_writable",
    "find",
    "load",
    "load_model",
    "round_to_half",
    "save",
    "shipped_models",
]

_TENSORS, _CARD, _CHECKSUMS = "model.safetensors", "README.md", "SHA256SUMS"
_ALIASES = "aliases"
_DIGEST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model read from disk.

    Attributes:
        cascade: in eval mode, float32, on the CPU.
        path: the folder it came from.
        calibration: what its exits did on held-out images; None for a model that was never calibrated.
    """

    manifest: Manifest
    cascade: Cascade
    path: Path
    calibration: CalibrationTable | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the weights' file."""
        return _sha256(self.path / _TENSORS)

    @property
    def calibration_digest(self) -> str:
        """What thresholds belong to: another one for other weights, temperatures or calibration tables.

        Made of the checksums that `load` has verified; no large file is read.
        """
        sums = _checksums(self.path)
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
        cascade.load_state_dict(_read_tensors(folder / _TENSORS))  # half precision becomes float32
    except (RuntimeError, SafetensorError) as error:
        raise ModelFormatError(f"{folder / _TENSORS} does not hold this architecture: {error}") from error
    return StoredModel(manifest, cascade.eval(), folder, read_calibration(folder, manifest))


def load_model(name_or_path: str | Path) -> Cascade:
    """The model alone, in eval mode: called on preprocessed images [B, 3, S, S] it returns all exits' logits.

    Raises:
        ModelFormatError: as `load`.
    """
    return load(name_or_path).cascade


def check_writable(folder: Path) -> None:
    """Check that a model can be written there, before the work is done.

    Raises:
        ModelFormatError: when `folder` exists and is not a model folder.
    """
    if folder.exists() and not (folder / CONFIG).is_file():
        raise ModelFormatError(f"{folder} exists and is not a model folder; it is left alone")


def save(
    folder: Path, cascade: Cascade, manifest: Manifest, card: str, calibration: CalibrationTable | None = None
) -> None:
    """Write a model folder whole or not at all, replacing a model that is already there.

    Raises:
        ModelFormatError: when `folder` exists and is not a model folder.
    """
    check_writable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / CONFIG).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
        _write_tensors({key: _compact(value) for key, value in cascade.state_dict().items()}, draft / _TENSORS)
        if calibration is not None:
            calibration.save(draft / CALIBRATION)
        sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(draft.iterdir()))
        (draft / _CHECKSUMS).write_text(sums)
        # Not among the checksums: anyone may add to the card.
        (draft / _CARD).write_text(card)
        draft.chmod(0o755)
        for file in draft.iterdir():
            file.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in (folder / _CHECKSUMS).read_text().splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}


def round_to_half(cascade: Cascade) -> None:
    """Give kernels and matrices, in place, values that half precision holds, which halves their size on disk.

    Norms and biases, which are few, stay as they are; so does a matrix beyond half precision's 65504.
    """
    with torch.no_grad():
        for weight in cascade.parameters():
            if weight.ndim >= 2 and weight.abs().amax() <= torch.finfo(torch.float16).max:
                weight.copy_(weight.half())


def _compact(value: Tensor) -> Tensor:
    """In half precision where that loses nothing."""
    half = value.half()
    lossless = value.dtype == torch.float32 and torch.equal(half.float(), value)
    return (half if lossless else value).contiguous()


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Save each content once, under the first of its names."""
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
    """All tensors by all their names.

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
    for name in (_CHECKSUMS, CONFIG, _TENSORS):
        if not (folder / name).is_file():
            raise ModelFormatError(f"{folder} has no {name}")
    sums = _checksums(folder)
    for name in (CONFIG, _TENSORS, *([CALIBRATION] if (folder / CALIBRATION).exists() else [])):
        found = _sha256(folder / name)
        if sums.get(name) != found:
            raise ModelFormatError(f"{folder / name}: sha256 is {found}, {_CHECKSUMS} says {sums.get(name)}")
