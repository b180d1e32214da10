"""From a decoded image to the uint8 pixels a model reads, in training, calibration and service.

Shapes: B batch, R stored side, S crop side.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

if TYPE_CHECKING:
    from torch import Tensor

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# The transposition that turns an image upright, by its Exif orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_USUAL_WHITES = (1, 255, 65_535, 2**32)


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
        """Load, convert to RGB, resize and crop in one resampling, turn upright; alpha is dropped.

        The window is cut out while resampling, so an extreme aspect ratio costs no memory. A JPEG is decoded at the
        smallest of its eighths that leaves twice the pixels needed.

        Shape: -> [3, crop_px, crop_px]

        Raises:
            OSError: when the image's data is incomplete.
        """
        width, height = _load(image, 2 * self.resize_px)
        window = self.crop_px * min(width, height) / self.resize_px
        left, top = (width - window) / 2, (height - window) / 2
        box = (left, top, left + window, top + window)
        resized = _to_rgb(image).resize((self.crop_px, self.crop_px), _FILTERS[self.interpolation], box=box)
        # The window is a centred square, so it can be turned afterwards, when it is small.
        turn = _TURNS.get(_orientation(image))
        upright = resized if turn is None else resized.transpose(turn)
        return np.ascontiguousarray(np.asarray(upright, dtype=np.uint8).transpose(2, 0, 1))


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
    import torch  # imported here: a process that only decodes does not load torch

    scale = torch.tensor(std, device=images.device).view(3, 1, 1) * 255
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1) * 255
    return (images.float() - shift) / scale


def _load(image: Image.Image, enough_px: int) -> tuple[float, float]:
    """Decode; return the image's width and height, which are fractional for a scaled JPEG."""
    drafted = image.draft(None, (enough_px, enough_px)) if isinstance(image, JpegImageFile) else None
    image.load()
    return image.size if drafted is None else drafted[1][2:]


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # A damaged Exif block can raise any exception; then only the orientation is lost.
    except Exception:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F"):
        return _grey(_full_range(image))
    if image.mode.startswith("I;16"):
        return _grey(_upper_bits(image))
    # Pillow warns about a palette with transparency.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> npt.NDArray[np.uint16]:
    """16-bit greyscale, which Pillow would clip to 255, by its upper 8 bits.

    A TIFF with 12 bits or with white as zero is not converted; Pillow returns both unchanged.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    values: npt.NDArray[np.uint16] = np.asarray(image) >> (bits - 8)
    return 255 - values if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else values


def _full_range(image: Image.Image) -> npt.NDArray[np.float32]:
    """Scale 32-bit greyscale to 0..255, from the smallest usual range that holds all its values."""
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    np.maximum(values, 0, out=values)
    highest = values.max()
    values *= 255 / next((white for white in _USUAL_WHITES if highest <= white), highest)
    return values


def _grey(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
