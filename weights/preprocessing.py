"""From a decoded image to the uint8 pixels a model reads; the same code trains, calibrates and serves.

Shapes: B batch, R stored side, S crop side.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from torch import Tensor

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize the shorter side, crop the centre, normalise.

    Attributes:
        resize_px: length the shorter side is resized to.
        crop_px: side of the centre crop, at most `resize_px`.
        mean: per channel, of pixels scaled to [0, 1]; applied on the device.
        std: per channel, of pixels scaled to [0, 1]; applied on the device.
    """

    resize_px: int
    crop_px: int
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0 < self.crop_px <= self.resize_px:
            raise ValueError(f"crop_px must be between 1 and resize_px {self.resize_px}, got {self.crop_px}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def apply(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Turn upright, convert to RGB, resize and crop in one resampling; alpha is dropped.

        The window is cut out while resampling, so an extreme aspect ratio costs no memory. `image` itself is turned,
        rather than a copy.

        Shape: -> [3, crop_px, crop_px]

        Raises:
            OSError: when the image's data is incomplete.
        """
        ImageOps.exif_transpose(image, in_place=True)
        upright = _to_rgb(image)
        width, height = upright.size
        window = self.crop_px * min(width, height) / self.resize_px
        left, top = (width - window) / 2, (height - window) / 2
        box = (left, top, left + window, top + window)
        resized = upright.resize((self.crop_px, self.crop_px), _FILTERS[self.interpolation], box=box)
        return np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1))


def centre_crop(images: "Tensor", crop_px: int) -> "Tensor":
    """The middle of each image.

    Shape: [B, 3, R, R] -> [B, 3, S, S]
    """
    start = (images.shape[-1] - crop_px) // 2
    return images[..., start : start + crop_px, start : start + crop_px]


def normalise(images: "Tensor", mean: tuple[float, ...], std: tuple[float, ...]) -> "Tensor":
    """Scale pixels from [0, 255] to [0, 1], subtract the mean, divide by the standard deviation.

    Shape: [B, 3, S, S] -> [B, 3, S, S] float32
    """
    import torch  # here, so that a process that only decodes does not load it

    scale = torch.tensor(std, device=images.device).view(3, 1, 1) * 255
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1) * 255
    return (images.float() - shift) / scale


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips wide greyscale to 255; keep the upper 8 of its 16 bits instead.
        wide = np.clip(np.asarray(image), 0, 65535)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
