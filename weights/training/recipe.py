"""The hyper-parameters of a training run, as one frozen value."""

from dataclasses import asdict, dataclass, field, fields, replace
from math import cos, isfinite, pi
from typing import Any

from models.config import CascadeConfig, TrunkEmbeddingConfig
from weights.training.augment import Augmentation


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text names the value and the rule it breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one training run.

    Attributes:
        look_epochs: for each stage, epochs of fine-tuning its trunk and classifier at its resolution. 0 only fits a
            classifier; an empty tuple keeps both; a value below 1 uses a part of the images. Unused without trunks.
        look_rate: peak learning rate of fine-tuning.
        frozen_blocks: number of the trunk's first blocks that are frozen, together with its stem.
        epochs: epochs of training the Transformers behind the frozen trunks; without trunks, of the whole model.
        stage_images: the most images the Transformers are trained on.
        learning_rate: peak learning rate of the Transformers.
        views: number of augmented views of an image whose frozen features are cached; later epochs repeat them.
        warmup_fraction: part of each phase in which the rate rises linearly; it then falls to zero as half a cosine.
        weight_decay: of matrices and kernels; norms, biases, positions and class tokens have none.
        grad_clip: largest gradient norm.
    """

    look_epochs: tuple[float, ...] = ()
    look_rate: float = 3e-4
    frozen_blocks: int = 4
    epochs: float = 10.0
    stage_images: int = 16_000
    learning_rate: float = 1e-3
    views: int = 4
    batch_size: int = 64
    warmup_fraction: float = 0.05
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    drop_path: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isfinite(number) for number in numbers if isinstance(number, float)):
                raise RecipeError(f"{each.name} must be finite, got {value}")
        for name in ("epochs", "batch_size", "views", "stage_images", "look_rate", "learning_rate", "grad_clip"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup_fraction", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if min(self.look_epochs, default=0) < 0:
            raise RecipeError(f"look_epochs must not be negative, got {self.look_epochs}")
        if min(self.weight_decay, self.frozen_blocks) < 0:
            raise RecipeError(f"weight_decay and frozen_blocks must not be negative, got {self}")

    def check_images(self, side_px: int) -> None:
        """Check the values that depend on the stored size of the images.

        Raises:
            RecipeError: when the reflected border is larger than the images.
        """
        if self.augmentation.padding_px >= side_px:
            raise RecipeError(f"padding_px must be below the images' {side_px} px, got {self.augmentation.padding_px}")

    def check_looks(self, embedding: TrunkEmbeddingConfig) -> None:
        """Check the values that depend on the trunks.

        Raises:
            RecipeError: when the number of looks differs, or a block whose map a stage reads would be frozen.
        """
        looks = embedding.looks
        if self.look_epochs and len(self.look_epochs) != len(looks):
            raise RecipeError(f"look_epochs needs a number for each of the {len(looks)} looks, got {self.look_epochs}")
        most = min(look.trunk.last_block_at(look.strides[0]) for look in looks)
        if self.frozen_blocks > most:
            raise RecipeError(f"frozen_blocks must be at most {most} for these looks, got {self.frozen_blocks}")

    def rate_at(self, step: int, total_steps: int, peak: float) -> float:
        """Learning rate of a step of a phase: linear warm-up, then half a cosine down to zero."""
        warmup = max(1, round(total_steps * self.warmup_fraction))
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (1 + cos(pi * (step - warmup) / max(1, total_steps - warmup))) / 2

    def with_values(self, assignments: dict[str, str]) -> "Recipe":
        """A copy with some values replaced, each given as text.

        Raises:
            RecipeError: for an unknown name or a text that is not a number of its kind.
        """
        kinds = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "augmentation"}
        shaped = asdict(self.augmentation)
        changes: dict[str, Any] = {}
        augmented: dict[str, Any] = {}
        for name, text in assignments.items():
            if name in kinds:
                changes[name] = _parsed(name, text, kinds[name])
            elif name in shaped:
                augmented[name] = _parsed(name, text, shaped[name])
            else:
                raise RecipeError(f"a recipe has no {name!r}; it has {', '.join([*kinds, *shaped])}")
        try:
            return replace(self, augmentation=replace(self.augmentation, **augmented), **changes)
        except ValueError as error:
            raise RecipeError(str(error)) from None


_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _parsed(name: str, text: str, like: Any) -> Any:
    try:
        if isinstance(like, tuple):
            return tuple(float(number) for number in text.split(",") if number)
        return _SWITCH[text.lower()] if isinstance(like, bool) else type(like)(text)
    except (KeyError, ValueError):
        kind = "numbers with commas between" if isinstance(like, tuple) else f"a value such as {like}"
        raise RecipeError(f"{name} must be {kind}, got {text!r}") from None


# Fine-tuning helps where the look is smaller than the trunk's pretraining size. With 3,700 photographs of Caltech-101
# the accuracy changed from 71 to 80 % at 64 pixels, from 90.7 to 89.5 % at 160 and from 91.4 to 91.7 % at 224 (noise,
# with 324 test images). The large looks take most of the time.
_TUNED_PX, _MANY_PHOTOGRAPHS = 130, 20_000

# Images used to tune a look of so many pixels, over all epochs; and the most epochs.
_LOOK_BUDGETS = ((90, 90_000, 12.0), (130, 40_000, 10.0), (190, 20_000, 6.0), (10_000, 12_000, 4.0))
_STAGE_IMAGES, _MOST_STAGE_EPOCHS = 40_000, 12.0
_SMALL_PX = 72

_PHOTOGRAPHS = Augmentation(min_scale=0.4, colour=0.3, distortion_rate=0.8)
# The whole of a small image is the object; it is shifted by up to an eighth of its side.
_SMALL_IMAGES = Augmentation(padding_px=28)


def recipe_for(config: CascadeConfig, num_images: int, native_px: int, seed: int = 0) -> Recipe:
    """The recipe for an amount of data: the fewer images, the more epochs.

    Args:
        num_images: number of training images.
        native_px: shorter side of a typical image as it is stored.
    """
    if not isinstance(config.embedding, TrunkEmbeddingConfig):
        return Recipe(
            epochs=min(300.0, max(20.0, 1_000_000 / num_images)),
            batch_size=min(128, max(8, num_images // 8)),
            augmentation=Augmentation(padding_px=config.image_size // 8),
            seed=seed,
        )
    small = native_px <= _SMALL_PX
    look_epochs = []
    for look in config.embedding.looks:
        if look.px > _TUNED_PX and not small and num_images < _MANY_PHOTOGRAPHS:
            look_epochs.append(0.0)
            continue
        images, most = next((images, most) for px, images, most in _LOOK_BUDGETS if look.px <= px)
        look_epochs.append(round(min(most, images / num_images), 2))
    return Recipe(
        look_epochs=tuple(look_epochs),
        epochs=round(min(_MOST_STAGE_EPOCHS, _STAGE_IMAGES / min(num_images, Recipe().stage_images)), 2),
        views=3 if num_images > 2_000 else 4,
        batch_size=min(64, max(8, num_images // 8)),
        augmentation=_SMALL_IMAGES if small else _PHOTOGRAPHS,
        seed=seed,
    )
