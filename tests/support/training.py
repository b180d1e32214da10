"""Quick training runs: tiny cascades, images of two colours, a recipe of few steps."""

import io
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cascades import TINY, TINY_LOOKS, randomised
from images import two_colour_images, two_colour_parquet
from manifests import manifest_of
from rich.console import Console

from models.cascade import Cascade
from models.config import CascadeConfig
from models.look import look_at
from weights.calibration.assess import calibrate_model
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing
from weights.splitting import split
from weights.store import save
from weights.training.augment import Augmentation
from weights.training.recipe import Recipe
from weights.training.run import TrainingRun
from weights.training.train import train
from weights.training.trainer import Trainer

LOOKS = replace(TINY_LOOKS, num_classes=2)
SMALL = replace(TINY, num_classes=2)
QUICK = Recipe(
    look_epochs=(2.0, 1.0, 0.5),
    epochs=2,
    batch_size=8,
    views=2,
    drop_path=0.2,
    augmentation=Augmentation(padding_px=4),
)
STILL = Augmentation(flip=False)
CPU = torch.device("cpu")


def preprocessing_of(config: CascadeConfig) -> Preprocessing:
    """Images that are stored as large as they are seen."""
    return Preprocessing(resize_px=config.image_size, crop_px=config.image_size)


def looking() -> Cascade:
    """A cascade with trunks, of which that of the second stage starts like the first, and the third does not.

    Their norms have the statistics of coloured images, without which random weights lose what they see.
    """
    return deepcopy(_looking())


@cache
def _looking() -> Cascade:
    cascade = randomised(LOOKS)
    pixels = torch.from_numpy(coloured(32, seed=100).images).float()
    trunks = [stage.embedding.trunk for stage in cascade.stages]
    for trunk, look in zip(trunks, LOOKS.embedding.looks, strict=True):
        norms = [module for module in trunk.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        with torch.no_grad():
            trunk(look_at((pixels - 127) / 128, look.px))
        for norm in norms:
            norm.eval()
    trunks[1].load_state_dict(trunks[0].state_dict())
    return cascade


def coloured(count: int = 24, side: int = 63, seed: int = 0) -> LabelledImages:
    """Reddish and bluish images."""
    images, labels = two_colour_images(count, side, seed)
    return LabelledImages(images, labels, ("red", "blue"))


def silent(what: str, done: int, total: int) -> None:
    """A report that nobody hears."""


def trainer_of(cascade: Cascade, recipe: Recipe = QUICK, data: LabelledImages | None = None) -> Trainer:
    """A trainer on all images."""
    data = data or coloured(side=cascade.config.image_size)
    return Trainer(cascade, data, np.arange(len(data)), preprocessing_of(cascade.config), recipe, CPU, silent)


def phase_arguments(cascade: Cascade, recipe: Recipe = QUICK, data: LabelledImages | None = None) -> tuple[Any, ...]:
    """What every phase is made with, but for its number."""
    data = data or coloured(side=cascade.config.image_size)
    cascade.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return cascade, data, np.arange(len(data)), preprocessing_of(cascade.config), recipe


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all tensors."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    """Names of the tensors that are no longer what they were."""
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def saved(folder: Path, cascade: Cascade, **more: Any) -> Path:
    """Write a model folder of classes a, b, …; `more` of the manifest."""
    save(folder, cascade, manifest_of(cascade.config, name=folder.name, **more), "")
    return folder


def run_of(folder: Path, name: str, config: CascadeConfig = LOOKS, **changes: Any) -> TrainingRun:
    """A run on 60 images of two colours that lie in the folder."""
    data = folder / "train.parquet"
    if not data.exists():
        two_colour_parquet(data, 60, side=config.image_size)
    values: dict[str, Any] = {
        "name": name,
        "data": (data,),
        "out": folder / name,
        "run_dir": folder / f".{name}.run",
        "architecture": config,
        "preprocessing": preprocessing_of(config),
        "recipe": {"look_epochs": "1,0,0.5", "epochs": "1", "batch_size": "8", "views": "2"},
        "holdout": 0.4,
    }
    return TrainingRun(**{**values, **changes})


def quietly(run: TrainingRun) -> tuple[bool, str]:
    """Train; whether it finished, and what it printed."""
    printed = io.StringIO()
    finished = train(run, Console(file=printed, width=200))
    return finished, printed.getvalue()


def calibrated_on_part(folder: Path) -> tuple[Path, Path]:
    """A model folder as training leaves it, calibrated, and the 80 images of two colours that it names."""
    data = two_colour_parquet(folder / "train.parquet", 80, side=28, mislabelled=0.25)
    provenance = {
        "data": data.name,
        "split": split(two_colour_images(80, 28)[0], 0.4, 3).provenance(0.4, 3),
        "recipe": {"epochs": 1},
        **{"epochs_done": 1, "hours": 0.5, "hardware": "1 thread of a CPU", "date": "2026-01-01"},
    }
    model = saved(folder / "tiny", randomised(SMALL), class_names=("red", "blue"), provenance=provenance)
    console = Console(file=io.StringIO())
    calibrate_model(model, [data], accuracy_drop=0.005, half=False, device="cpu", console=console)
    return model, data
