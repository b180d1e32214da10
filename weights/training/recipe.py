"""How a cascade is trained: every number that shapes the result, in one frozen value."""

from dataclasses import dataclass, field, replace
from math import cos, pi

from weights.training.augment import Augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one training run.

    Attributes:
        learning_rate: peak of the schedule.
        min_learning_rate: end of the cosine.
        warmup_fraction: part of all steps in which the rate rises linearly.
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
    batch_size: int = 128
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

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Linear warm-up, then a half cosine down to `min_learning_rate`."""
        warmup = max(1, round(total_steps * self.warmup_fraction))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        span = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + span * (1 + cos(pi * progress)) / 2

    def ema_decay_at(self, step: int) -> float:
        """Decay of the averaged weights after `step` updates, small at first."""
        return min(self.ema_decay, (1 + step) / (10 + step))


_STRONG = Augmentation(
    padding_px=7, colour=0.3, rotation_deg=12, shear=0.1, erasing=0.25, mixup_alpha=0.2, cutmix_alpha=1.0
)

RECIPES: dict[str, Recipe] = {
    "short": Recipe(epochs=10, augmentation=Augmentation(padding_px=7)),
    "long": Recipe(epochs=200, batch_size=512, drop_path=0.1, augmentation=_STRONG),
    "long_crop": Recipe(
        epochs=200,
        batch_size=512,
        drop_path=0.1,
        augmentation=replace(_STRONG, padding_px=0, min_scale=0.35),
    ),
}
"""`short` for a few epochs; `long` for hundreds on small images, `long_crop` where objects vary in size."""
