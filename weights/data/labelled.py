"""Labelled images, before and after decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt


class DataError(ValueError):
    """Data that cannot be used; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """Images as they are stored, with their classes.

    Attributes:
        where: the place of each image, for messages.
        read: functions that return an image's bytes.
        labels: indices into `class_names`.
        notes: what was left out, and why, a line each.
    """

    where: list[str]
    read: list[Callable[[], bytes]]
    labels: list[int]
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    def first(self, limit: int) -> "EncodedImages":
        """At most `limit` images, as evenly over the classes as possible; the first ones of each class."""
        labels = np.asarray(self.labels)
        rank = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            rank[rows] = np.arange(len(rows))
        kept = np.sort(np.lexsort((labels, rank))[:limit]).tolist()
        return replace(
            self,
            where=[self.where[row] for row in kept],
            read=[self.read[row] for row in kept],
            labels=[self.labels[row] for row in kept],
        )


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Decoded images with their classes.

    Attributes:
        images: uint8, [N, 3, resize_px, resize_px]: the centre square, before any crop.
        labels: int64, [N].
        native_px: median of the shorter sides of the images as they are stored; 0 for images made in memory.
        notes: what was left out when they were read, and why, a line each.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    native_px: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> list[int]:
        """How many images each class has."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.class_names))]

    def subset(self, rows: npt.NDArray[np.int64]) -> "LabelledImages":
        """The given rows, copied."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def relabelled(self, class_names: Sequence[str]) -> "LabelledImages":
        """The same images labelled by another list of classes, which contains all classes that have images.

        Raises:
            DataError: when a class that has images is missing from the list.
        """
        known = {name: index for index, name in enumerate(class_names)}
        counted = zip(self.class_names, self.counts, strict=True)
        unknown = [name for name, count in counted if count and name not in known]
        if unknown:
            raise DataError(
                f"the data has {len(unknown)} classes that the model does not have ({_some(unknown)}); "
                f"the model has {len(known)} ({_some(class_names)})"
            )
        new = np.array([known.get(name, -1) for name in self.class_names], dtype=np.int64)
        return replace(self, labels=new[self.labels], class_names=tuple(class_names))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
