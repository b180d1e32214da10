"""Random crops, distortions and colours of whole batches, on the device the images live on.

All random numbers come from one generator, one per image and property. So a batch of any size needs few kernels, and
a resumed run repeats the numbers.

Shapes: B batch, R stored side, S crop side.
"""

from dataclasses import dataclass
from math import inf, radians

import torch
import torch.nn.functional as F
from torch import Tensor

_GREY_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Strength of the augmentation. Zero switches a property off.

    Attributes:
        padding_px: reflected border from which the crop may start.
        min_scale: smallest share of the stored image's area a crop may cover; 1 keeps its size.
        flip: whether half of the images are mirrored.
        colour: largest relative change of brightness, contrast and saturation.
        rotation_deg: largest rotation either way.
        shear: largest horizontal shear, as a fraction of the side.
        distortion_rate: share of images whose colours and geometry are changed.
    """

    padding_px: int = 0
    min_scale: float = 1.0
    flip: bool = True
    colour: float = 0.0
    rotation_deg: float = 0.0
    shear: float = 0.0
    distortion_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in ("distortion_rate", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale must be in (0, 1], got {self.min_scale}")
        for name in ("padding_px", "rotation_deg", "shear"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")

    @property
    def distorts(self) -> bool:
        """Whether images are resampled or recoloured, in addition to the crop."""
        return self.min_scale < 1 or max(self.colour, self.rotation_deg, self.shear) > 0


def augment(images: Tensor, crop_px: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, mirror, distort and recolour each image independently.

    Shape: [B, 3, R, R] uint8 -> [B, 3, S, S], uint8 where nothing is resampled, else float32 in [0, 255]
    """
    if not augmentation.distorts:
        return random_crop_flip(images, crop_px, augmentation.padding_px, generator, flip=augmentation.flip)
    return _recolour(_resample(images, crop_px, augmentation, generator), augmentation, generator)


def random_crop_flip(
    images: Tensor, crop_px: int, padding_px: int, generator: torch.Generator, *, flip: bool = True
) -> Tensor:
    """Reflect the borders, crop each image at its own random place, and mirror half of them.

    Shape: [B, 3, R, R] -> [B, 3, S, S], uint8
    """
    batch, _, side, _ = images.shape
    # Reflection indices instead of F.pad, which has no uint8 kernel on every device.
    reflected = F.pad(torch.arange(side, dtype=torch.float32)[None], (padding_px, padding_px), mode="reflect")
    source = reflected[0].long().to(images.device)

    def draw(high: int) -> Tensor:
        return torch.randint(high, (batch, 1), generator=generator, device=images.device)

    steps = torch.arange(crop_px, device=images.device)
    span = side + 2 * padding_px - crop_px + 1
    rows, columns = source[draw(span) + steps], source[draw(span) + steps]
    if flip:
        columns = torch.where(draw(2).bool(), columns.flip(1), columns)
    image = torch.arange(batch, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _resample(images: Tensor, crop_px: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop of random size and place, mirrored, rotated and sheared, in one resampling."""
    batch, _, side, _ = images.shape
    size, y, x, mirror, turn, slant, chosen = _uniform(images, generator, 7)
    # At full scale the window is the crop itself; the border beyond the image is reflected.
    largest = crop_px / side if augmentation.min_scale == 1 else 1.0
    scale = largest * (augmentation.min_scale + (1 - augmentation.min_scale) * size).sqrt()
    room = 1 + 2 * augmentation.padding_px / side - scale
    distorted = (chosen < augmentation.distortion_rate).float()
    angle = (2 * turn - 1) * radians(augmentation.rotation_deg) * distorted
    shear = (2 * slant - 1) * augmentation.shear * distorted
    sign = torch.where(mirror < 0.5, -1.0, 1.0) if augmentation.flip else torch.ones_like(mirror)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    first = torch.stack([sign * cos, shear * cos - sin, room * (2 * x - 1)], dim=1)
    second = torch.stack([sign * sin, shear * sin + cos, room * (2 * y - 1)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), [batch, 3, crop_px, crop_px], align_corners=False)
    resampled: Tensor = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return resampled


def _recolour(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of some images."""
    if augmentation.colour == 0:
        return images
    brightness, contrast, saturation, chosen = _uniform(images, generator, 4)
    strength = augmentation.colour * (chosen < augmentation.distortion_rate).float()

    def factor(draw: Tensor) -> Tensor:
        return (1 + (2 * draw - 1) * strength).view(-1, 1, 1, 1)

    images = images * factor(brightness)
    grey = (images * torch.tensor(_GREY_WEIGHTS, device=images.device).view(3, 1, 1)).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    images = grey + (images - grey) * factor(saturation)
    recoloured: Tensor = (mean + (images - mean) * factor(contrast)).clamp(0, 255)
    return recoloured


def _uniform(images: Tensor, generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
    """`count` times one draw from [0, 1) for each image: [B] each."""
    return torch.rand((count, images.shape[0]), generator=generator, device=images.device).unbind()
