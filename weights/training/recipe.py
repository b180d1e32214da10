"""How a cascade is trained: every number that shapes the result, in one frozen value."""

from dataclasses import dataclass, field, replace
from math import cos, pi
from typing import Literal, NamedTuple

from weights.training.augment import Augmentation


class Phase(NamedTuple):
    """A part of a run in which the same stages are trained.

    Attributes:
        stages: how many of the first stages; None for all.
        start: its first epoch.
        epochs: how many it has.
    """

    stages: int | None
    start: int
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one training run.

    Attributes:
        epochs: all of them, those of `growth` included.
        growth: for how many epochs only the first stage is trained, then the first two, and so on before the rest
            of the epochs trains all. Early stages cost a fraction of the last one, and the stem learns with them.
        optimizer: of matrices and kernels, these as matrices of one row per output channel; everything else is
            AdamW's. Muon's steps are scaled to the size of AdamW's, so one learning rate serves both.
        learning_rate: peak of the schedule, held while the cascade grows.
        min_learning_rate: end of the cosine.
        warmup_fraction: part of each phase in which the rate rises linearly.
        weight_decay: of matrices and kernels; norms, biases, positions and class tokens have none.
        grad_clip: largest gradient norm.
        ema_decay: limit of the averaged weights' decay, approached as (1 + t) / (10 + t) from the start.
        exit_weights: weight of each exit's cross-entropy; None weighs all alike.
        distillation: weight of the cross-entropy of each earlier exit against the last one's probabilities,
            which are not trained by it.
        drop_path: share of images for which a block's branch is skipped; rises linearly from the first block to
            this at the last.
    """

    epochs: int
    growth: tuple[int, ...] = ()
    batch_size: int = 128
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-5
    warmup_fraction: float = 0.05
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    label_smoothing: float = 0.1
    ema_decay: float = 0.9998
    exit_weights: tuple[float, ...] | None = None
    distillation: float = 0.0
    drop_path: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "grad_clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup_fraction", "label_smoothing", "ema_decay", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.distillation < 0:
            raise ValueError(f"distillation must not be negative, got {self.distillation}")
        if min(self.growth, default=0) < 0 or sum(self.growth) >= self.epochs:
            raise ValueError(f"growth {self.growth} must leave some of the {self.epochs} epochs to all stages")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, got {self.optimizer!r}")

    def phase_at(self, epoch: int) -> Phase:
        """The part of the run an epoch belongs to."""
        start = 0
        for stages, epochs in enumerate(self.growth, start=1):
            if epoch < start + epochs:
                return Phase(stages, start, epochs)
            start += epochs
        return Phase(None, start, self.epochs - start)

    def learning_rate_at(self, step: int, total_steps: int, *, falls: bool = True) -> float:
        """Linear warm-up, then a half cosine down to `min_learning_rate`, if it falls, of a phase of so many steps."""
        warmup = max(1, round(total_steps * self.warmup_fraction))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if not falls:
            return self.learning_rate
        progress = (step - warmup) / max(1, total_steps - warmup)
        span = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + span * (1 + cos(pi * progress)) / 2

    def ema_decay_at(self, step: int) -> float:
        """Decay of the averaged weights after `step` updates, small at first."""
        return min(self.ema_decay, (1 + step) / (10 + step))


_STRONG = Augmentation(
    padding_px=7, colour=0.3, rotation_deg=12, shear=0.1, erasing=0.25, mixup_alpha=0.2, cutmix_alpha=1.0
)

_DISTORTED = replace(_STRONG, mixup_alpha=0.0, cutmix_alpha=0.0)
# Without label smoothing: with it, calibration errors stayed at 4 to 5 % after temperature.
_SHORT = Recipe(
    epochs=10,
    batch_size=256,
    optimizer="muon",
    learning_rate=6e-3,
    label_smoothing=0.0,
    augmentation=Augmentation(padding_px=7),
)

RECIPES: dict[str, Recipe] = {
    "short": _SHORT,
    "grown": replace(
        _SHORT,
        epochs=21,
        growth=(0, 0, 12),
        learning_rate=0.012,
        augmentation=Augmentation(padding_px=5, erasing=0.25),
    ),
    "finished": replace(_SHORT, epochs=12, growth=(0, 0, 8), learning_rate=3e-3, augmentation=_DISTORTED),
    "long": Recipe(epochs=200, batch_size=512, drop_path=0.1, augmentation=_STRONG),
    "long_crop": Recipe(
        epochs=200,
        batch_size=512,
        drop_path=0.1,
        augmentation=replace(_STRONG, padding_px=0, min_scale=0.35),
    ),
}
"""`short` for a few epochs; `grown` for an hour or two of a CPU from scratch, `finished` after it; `long` for hundreds
of epochs on small images, `long_crop` where objects vary in size."""
