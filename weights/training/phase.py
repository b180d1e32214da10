"""A phase of a training run: the same parameters, trained on the same images.

Shapes: B batch, N images, S image side, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.cascade import Cascade
from models.look import look_at
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing, centre_crop, normalise
from weights.training.augment import augment
from weights.training.recipe import Recipe

Places = npt.NDArray[np.int64]
Report = Callable[[str, int, int], None]
"""Receives what is being prepared, how many images are done, and of how many."""

_ORDER, _VIEWS, _SUBSET = 0, 1, 2  # Seeds of random streams that must differ; the trainer has another one.
PIECE = 32
"""Batch size of a trunk outside of training. At 224 pixels, larger batches exceed the processor's cache: they take half
as long again, and gigabytes."""
_IMAGES_PER_DRAW = 128  # images augmented together, with one draw of random numbers


class Phase(ABC):
    """One phase of a run; base class.

    Args:
        rows: row numbers of the images to train on.
        number: index of the phase in the run.

    Attributes:
        name: for progress messages.
        rate: peak learning rate.
        parameters: the trained parameters; all others are frozen.
    """

    name: str
    rate: float
    parameters: list[nn.Parameter]

    def __init__(
        self,
        cascade: Cascade,
        data: LabelledImages,
        rows: Places,
        preprocessing: Preprocessing,
        recipe: Recipe,
        number: int,
    ) -> None:
        self.cascade = cascade
        self.recipe = recipe
        self._preprocessing = preprocessing
        self._data = data
        self._number = number
        self._device = next(cascade.parameters()).device
        self._rows = rows
        self.epochs = 1.0

    def _use(self, num_images: int) -> None:
        """Train on only this many of the images, the same ones in every epoch."""
        order = np.random.default_rng((_SUBSET, self.recipe.seed)).permutation(len(self._rows))
        self._rows = self._rows[np.sort(order[: max(1, num_images)])]

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return min(self.recipe.batch_size, len(self._rows))

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch; incomplete batches are dropped."""
        return len(self._rows) // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the phase."""
        return max(1, round(self.steps_per_epoch * self.epochs)) if self.epochs > 0 else 0

    def begin(self, report: Report) -> None:
        """Work before the first step that changes weights; not repeated when a run continues."""
        return

    def prepare(self, report: Report) -> None:
        """Work before the first step; repeated when a run continues."""
        return

    def release(self) -> None:
        """Free the memory that `prepare` allocated."""
        return

    def judge(self, data: LabelledImages, report: Report) -> list[float]:
        """Accuracy of the trained exits on other images if that is cheap; else empty."""
        return []

    @abstractmethod
    def logits(self, step: int) -> tuple[list[Tensor], Tensor]:
        """Logits of the trained exits, one [B, K] each, and labels [B] of a step's batch."""

    def _batch(self, step: int) -> tuple[int, Places]:
        """The epoch of a step, and the positions of its images among those in use."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((_ORDER, self.recipe.seed, self._number, epoch)).permutation(len(self._rows))
        return epoch, order[position * self.batch_size : (position + 1) * self.batch_size]

    def _labels(self, places: Places) -> Tensor:
        return torch.from_numpy(self._data.labels[self._rows[places]]).to(self._device)

    def _augmented(self, places: Places, *seed: int) -> Tensor:
        """Augmented images with random numbers of this phase only, so that no phase repeats another's views.

        Shape: -> [B, 3, S, S], uint8
        """
        draw = int(np.random.default_rng((_VIEWS, self.recipe.seed, self._number, *seed)).integers(2**63))
        generator = torch.Generator(self._device).manual_seed(draw)
        images = torch.from_numpy(self._data.images[self._rows[places]]).to(self._device)
        augmented = augment(images, self._preprocessing.crop_px, self.recipe.augmentation, generator)
        return augmented if augmented.dtype == torch.uint8 else augmented.round().clamp(0, 255).to(torch.uint8)

    def _centre(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Shape: [B, 3, R, R] -> [B, 3, S, S], uint8."""
        return centre_crop(torch.from_numpy(images).to(self._device), self._preprocessing.crop_px)

    def _seen_at(self, pixels: Tensor, px: int) -> Tensor:
        """Images as a stage reads them, downscaled as in the service.

        Shape: [B, 3, S, S] uint8 -> [B, 3, P, P], normalised
        """
        normal = normalise(look_at(pixels, px), self._preprocessing.mean, self._preprocessing.std)
        return normal.contiguous(memory_format=torch.channels_last)

    def _views(self, num_views: int, report: Report) -> Iterator[tuple[slice, Tensor]]:
        """All images augmented `num_views` times, in pieces, with their positions in the cached tensors."""
        total, done = num_views * len(self._rows), 0
        for view in range(num_views):
            for start in range(0, len(self._rows), _IMAGES_PER_DRAW):
                places = np.arange(start, min(start + _IMAGES_PER_DRAW, len(self._rows)))
                for images in torch.split(self._augmented(places, view, start), PIECE):
                    yield slice(done, done + len(images)), images
                    done += len(images)
                    report(f"{self.name}: preparing views", done, total)

    def _kept(self, epoch: int, num_views: int, places: Places) -> Tensor:
        """The positions of this epoch's views."""
        return torch.from_numpy((epoch % num_views) * len(self._rows) + places)
