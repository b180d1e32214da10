"""The description of a model in its folder. Needs no torch, so that a front end starts fast and small."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from models.config import CascadeConfig
from weights.calibration.table import CalibrationError, CalibrationTable
from weights.folder import current, is_stale
from weights.preprocessing import Preprocessing

ZOO = Path(__file__).parent / "zoo"
CONFIG = "config.json"
CALIBRATION = "calibration.safetensors"


class ModelFormatError(ValueError):
    """A model folder that cannot be used; the text names the file, what was expected and what was found."""


class NamedOperatingPoint(BaseModel):
    """Thresholds that can be chosen by name, with their expected accuracy and cost.

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
    """The content of `config.json`: everything about a model except its tensors.

    Attributes:
        thresholds: the default operating point, one per exit but the last.
        temperatures: one per exit, dividing its logits before softmax.
        provenance: data, recipe, results and dates, as the model card tells them.
        operating_points: further operating points; their names are unique.
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
    operating_points: tuple[NamedOperatingPoint, ...] = ()

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


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(folder.name for folder in ZOO.iterdir() if (folder / CONFIG).is_file()))


def find(name_or_path: str | Path) -> Path:
    """The folder of a shipped model's name, or the given folder.

    Raises:
        ModelFormatError: when neither exists.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if str(name_or_path) in shipped_models():
        return ZOO / str(name_or_path)
    shipped = ", ".join(shipped_models()) or "none"
    raise ModelFormatError(f"no model {str(name_or_path)!r}: neither a folder nor a shipped model ({shipped})")


def is_model(folder: Path) -> bool:
    """Whether the folder holds a model."""
    return current(folder, CONFIG).is_file()


def calibration_path(folder: Path) -> Path | None:
    """The path of the calibration table; None if there is none."""
    path = current(folder, CALIBRATION)
    return path if path.exists() and not is_stale(folder, CALIBRATION) else None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder.

    Raises:
        ModelFormatError: when it is missing or not valid.
    """
    path = current(folder, CONFIG)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise ModelFormatError(f"{path}: {where}: {first['msg']}") from error


def read_calibration(folder: Path, manifest: Manifest) -> CalibrationTable | None:
    """The calibration table of a model folder; None if the model was never calibrated.

    Raises:
        ModelFormatError: when the table is not valid.
    """
    path = calibration_path(folder)
    if path is None:
        return None
    try:
        return CalibrationTable.load(path, manifest.architecture.num_stages)
    except CalibrationError as error:
        raise ModelFormatError(str(error)) from error
