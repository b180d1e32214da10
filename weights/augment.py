"""Random crops and flips of whole batches, on the device the images live on.

Shapes: B batch, R stored side, S crop side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop_flip(images: Tensor, crop_px: int, padding_px: int, generator: torch.Generator) -> Tensor:
    """Crop each image at its own place after reflecting its border, and mirror half of them.

    Args:
        images: uint8.
        padding_px: pixels reflected on each side before the crop.

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
    columns = torch.where(draw(2).bool(), columns.flip(1), columns)
    image = torch.arange(batch, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def centre_crop(images: Tensor, crop_px: int) -> Tensor:
    """The middle of each image.

    Shape: [B, 3, R, R] -> [B, 3, S, S]
    """
    start = (images.shape[-1] - crop_px) // 2
    return images[..., start : start + crop_px, start : start + crop_px]


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Scale uint8 pixels to [0, 1], subtract the mean, divide by the standard deviation.

    Shape: [B, 3, S, S] uint8 -> [B, 3, S, S] float32
    """
    scale = torch.tensor(std, device=images.device).view(3, 1, 1) * 255
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1) * 255
    return (images.float() - shift) / scale
