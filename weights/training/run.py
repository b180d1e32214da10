"""One training run: what was asked for, and what follows from it before the first step."""

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.cascade import Cascade
from models.config import CascadeConfig, TrunkEmbeddingConfig
from weights.card import TRUNK
from weights.data import DataError, LabelledImages, load_images
from weights.preprocessing import Preprocessing
from weights.splitting import Split, default_holdout, split
from weights.store import check_writable, load
from weights.training.initial import start_from
from weights.training.recipe import Recipe, recipe_for

_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run and where it lives.

    Attributes:
        data: parquet files, or one folder with a folder per class.
        out: the model folder, written at the end.
        run_dir: holds the checkpoint; the same run started again goes on from there.
        init: a model to start from, by name or folder; its classifiers are new where the classes are others.
        looks_only: take its trunks and their classifiers alone; what comes behind them may differ then.
        recipe: values that differ from the recipe for this amount of data, by name.
        holdout: part of the images kept from training, halved into calibration and test; None chooses by their number.
        limit: use at most so many images, evenly over the classes.
        skip_unreadable: leave out images that cannot be decoded.
        checkpoint_s: seconds between checkpoints.
    """

    name: str
    data: tuple[Path, ...]
    out: Path
    run_dir: Path
    architecture: CascadeConfig
    preprocessing: Preprocessing
    recipe: dict[str, str]
    init: str | Path | None = None
    looks_only: bool = False
    holdout: float | None = None
    limit: int | None = None
    skip_unreadable: bool = False
    seed: int = 0
    device: str = "cpu"
    checkpoint_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """Everything a run starts with.

    Attributes:
        holdout: that was chosen.
        cascade: before the first step.
        origin: name and checksum of the model it starts from, and of what part; empty when from nothing.
        trunk: where that model's trunk is from and whose terms it comes under, as its provenance says.
    """

    run: TrainingRun
    data: LabelledImages
    holdout: float
    parts: Split
    recipe: Recipe
    cascade: Cascade
    origin: dict[str, Any]
    trunk: dict[str, Any] | None

    def fingerprint(self) -> dict[str, str]:
        """What must be the same for the run to go on, by names for people."""
        recipe = asdict(self.recipe)
        values = {
            **{f"recipe {name}": value for name, value in recipe.pop("augmentation").items()},
            **{f"recipe {name}": value for name, value in recipe.items()},
            "holdout": self.holdout,
            "seed": self.run.seed,
            "images and labels": f"{len(self.data):,} ({_content(self.data)})",
            "classes": ", ".join(self.data.class_names),
            **{f"init {name}": value for name, value in self.origin.items()},
            "architecture": self.cascade.config,
            "preprocessing": self.run.preprocessing,
            # The two may be moved together.
            "out": os.path.relpath(self.run.out.resolve(), self.run.run_dir.resolve()),
        }
        return {name: str(value) for name, value in values.items()}


def planned(run: TrainingRun) -> PreparedRun:
    """Read the data and the model to start from, and choose what was left open.

    Raises:
        DataError: when the data cannot be used.
        RecipeError: when the recipe cannot be followed.
        ModelFormatError: when the folder to start from cannot be used, or is the one to write.
    """
    check_writable(run.out)
    data = load_images(run.data, run.preprocessing, limit=run.limit, skip_unreadable=run.skip_unreadable)
    holdout = default_holdout(len(data)) if run.holdout is None else run.holdout
    parts = split(data.images, holdout, run.seed)
    _check_classes(data, parts)
    architecture = replace(run.architecture, num_classes=len(data.class_names))
    recipe = recipe_for(architecture, len(parts.train), data.native_px, run.seed).with_values(run.recipe)
    recipe.check_images(run.preprocessing.resize_px)
    if isinstance(architecture.embedding, TrunkEmbeddingConfig):
        recipe.check_looks(architecture.embedding)
    torch.manual_seed(run.seed)
    cascade, origin, trunk = Cascade(architecture), {}, None
    if run.init is not None:
        stored = load(run.init)
        origin = start_from(stored, cascade, data.class_names, out=run.out, looks_only=run.looks_only)
        trunk = stored.manifest.provenance.get(TRUNK)
    return PreparedRun(
        run=run,
        data=data,
        holdout=holdout,
        parts=parts,
        recipe=recipe,
        cascade=cascade,
        origin=origin,
        trunk=trunk,
    )


def _check_classes(data: LabelledImages, parts: Split) -> None:
    if len(data.class_names) < 2:
        raise DataError(f"there is only the class {data.class_names[0]!r}: training needs images of at least two")
    left = data.subset(parts.train).counts
    short = [
        f"{name} ({count})" for name, count, kept in zip(data.class_names, data.counts, left, strict=True) if not kept
    ]
    if short:
        raise DataError(
            f"no image is left to train with in {len(short)} of the {len(left)} classes: {', '.join(short[:10])}. "
            "Add images to them, or leave them out"
        )


def _content(data: LabelledImages) -> str:
    """Start of a checksum of all pixels and labels, in their order."""
    digest = hashlib.sha256(data.labels.tobytes())
    digest.update(data.images.data)
    return digest.hexdigest()[:_SHOWN_DIGITS]
