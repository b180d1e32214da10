"""Tells a bad image from a broken stage."""

from collections.abc import Sequence

from service.engine.task import Task

_MAX_FAILED_BATCHES = 3


class StageBrokenError(RuntimeError):
    """A stage fails for whatever it is given; the worker is of no use any more."""


class StageHealth:
    """Counts whole batches that failed in a row, stage by stage.

    Three in a row break the stage, if they held at least three different images: one bad image that is sent again
    and again fails alone, however often.
    """

    def __init__(self, num_stages: int) -> None:
        self._failed_batches = [0] * num_stages
        self._failed_images: list[set[bytes]] = [set() for _ in range(num_stages)]

    def succeeded(self, stage: int) -> None:
        """At least one image of a batch got its prediction."""
        if self._failed_batches[stage]:
            self._failed_batches[stage] = 0
            self._failed_images[stage].clear()

    def failed(self, stage: int, tasks: Sequence[Task]) -> None:
        """Every image of a batch failed.

        Raises:
            StageBrokenError: when that has become a habit.
        """
        images = self._failed_images[stage]
        self._failed_batches[stage] += 1
        for task in tasks:
            if len(images) < _MAX_FAILED_BATCHES:
                images.add(task.pixels.tobytes())
        if self._failed_batches[stage] >= _MAX_FAILED_BATCHES and len(images) >= _MAX_FAILED_BATCHES:
            raise StageBrokenError(
                f"stage {stage} failed for every image of {self._failed_batches[stage]} batches in a row"
            )
