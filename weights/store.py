"""The on-disk model: a folder of `config.json`, `model.safetensors`, `README.md` and their checksums.

`calibration.safetensors` is there once held-out images were seen: what any thresholds would do to them.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.cascade import Cascade
from models.config import CascadeConfig
from weights.calibration.table import CalibrationError, CalibrationTable
from weights.preprocessing import Preprocessing

ZOO = Path(__file__).parent / "zoo"

_CONFIG, _TENSORS, _CARD, _CHECKSUMS = "config.json", "model.safetensors", "README.md", "SHA256SUMS"
_CALIBRATION = "calibration.safetensors"


class ModelFormatError(ValueError):
    """A model folder that cannot be used; the text names the file, what was expected and what was found."""


class OperatingPoint(BaseModel):
    """Thresholds to choose by name, and what they are expected to bring.

    Attributes:
        thresholds: one per exit but the last.
        accuracy: expected share of images answered right.
        mean_macs: expected MACs per image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    thresholds: tuple[float, ...]
    accuracy: float
    mean_macs: float


class Manifest(BaseModel):
    """Everything about a model but its tensors; the content of `config.json`.

    Attributes:
        thresholds: the default operating point, one per exit but the last.
        temperatures: one per exit, dividing its logits before softmax.
        provenance: data, recipe, results and dates, as the model card tells them.
        operating_points: further ones to select from, each by its own name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    name: str
    architecture: CascadeConfig
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    temperatures: tuple[float, ...]
    provenance: dict[str, Any]
    operating_points: tuple[OperatingPoint, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        stages, classes = self.architecture.num_stages, self.architecture.num_classes
        for what, found, expected in (
            ("class_names", len(self.class_names), classes),
            ("thresholds", len(self.thresholds), stages - 1),
            ("temperatures", len(self.temperatures), stages),
            *((f"operating point {point.name}", len(point.thresholds), stages - 1) for point in self.operating_points),
        ):
            if found != expected:
                raise ValueError(f"{what} has {found} entries, the architecture needs {expected}")
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError(f"operating points need different names, got {', '.join(names)}")
        if self.preprocessing.crop_px != self.architecture.image_size:
            raise ValueError(
                f"crop_px {self.preprocessing.crop_px} differs from image_size {self.architecture.image_size}"
            )
        if min(self.temperatures) <= 0:
            raise ValueError(f"temperatures must be positive, got {self.temperatures}")
        return self


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


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(folder.name for folder in ZOO.iterdir() if (folder / _CONFIG).is_file()))


def find(name_or_path: str | Path) -> Path:
    """The folder of a shipped model or of one's own.

    Raises:
        ModelFormatError: when there is neither.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if str(name_or_path) in shipped_models():
        return ZOO / str(name_or_path)
    shipped = ", ".join(shipped_models()) or "none"
    raise ModelFormatError(f"no model {str(name_or_path)!r}: neither a folder nor a shipped model ({shipped})")


def load(name_or_path: str | Path) -> StoredModel:
    """Read a model after verifying its checksums.

    Raises:
        ModelFormatError: when a file is missing, altered or does not fit the architecture.
    """
    folder = find(name_or_path)
    _verify(folder)
    try:
        manifest = Manifest.model_validate_json((folder / _CONFIG).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise ModelFormatError(f"{folder / _CONFIG}: {where}: {first['msg']}") from error
    cascade = Cascade(manifest.architecture)
    try:
        cascade.load_state_dict(load_file(folder / _TENSORS))
    except (RuntimeError, SafetensorError) as error:
        raise ModelFormatError(f"{folder / _TENSORS} does not hold this architecture: {error}") from error
    table = None
    if (folder / _CALIBRATION).exists():
        try:
            table = CalibrationTable.load(folder / _CALIBRATION, manifest.architecture.num_stages)
        except CalibrationError as error:
            raise ModelFormatError(str(error)) from error
    return StoredModel(manifest, cascade.eval(), folder, table)


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
    if folder.exists() and not (folder / _CONFIG).is_file():
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
        (draft / _CONFIG).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
        save_file({key: value.contiguous() for key, value in cascade.state_dict().items()}, draft / _TENSORS)
        if calibration is not None:
            calibration.save(draft / _CALIBRATION)
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


def _verify(folder: Path) -> None:
    for name in (_CHECKSUMS, _CONFIG, _TENSORS):
        if not (folder / name).is_file():
            raise ModelFormatError(f"{folder} has no {name}")
    lines = (line.split(maxsplit=1) for line in (folder / _CHECKSUMS).read_text().splitlines())
    sums = {parts[1]: parts[0] for parts in lines if len(parts) == 2}
    for name in (_CONFIG, _TENSORS, *([_CALIBRATION] if (folder / _CALIBRATION).exists() else [])):
        found = _sha256(folder / name)
        if sums.get(name) != found:
            raise ModelFormatError(f"{folder / name}: sha256 is {found}, {_CHECKSUMS} says {sums.get(name)}")
