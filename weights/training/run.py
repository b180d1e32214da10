"""A training run: the request, and its preparation before the first step."""

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
    """The request for a training run.

    Attributes:
        data: parquet files, or one folder with a folder per class.
        out: the model folder, written at the end.
        run_dir: holds the checkpoint; the same run started again continues from it.
        init: a model to start from, by name or folder; classifiers are new if the classes differ.
        looks_only: take only its trunks and their classifiers; the rest of the architecture may differ.
        recipe: values that replace those of the default recipe, by name.
        holdout: part of the images kept from training, halved into calibration and test; None chooses by their number.
        limit: the most images to use, evenly over the classes.
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
    """The data, recipe and cascade with which a run starts.

    Attributes:
        holdout: the chosen share.
        cascade: before the first step.
        origin: name and checksum of the initial model, and which part was taken; empty without one.
        trunk: origin and licence of that model's trunk, from its provenance.
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
        """The values that must be the same to continue the run, by readable name."""
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
    """Read the data and the initial model, and choose the values that the request left open.

    Raises:
        DataError: when the data cannot be used.
        RecipeError: when the recipe cannot be followed.
        ModelFormatError: when the initial model cannot be used, or its folder is `out`.
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
    """The first digits of a checksum of all pixels and labels, in order."""
    digest = hashlib.sha256(data.labels.tobytes())
    digest.update(data.images.data)
    return digest.hexdigest()[:_SHOWN_DIGITS]
