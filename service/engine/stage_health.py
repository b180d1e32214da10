"""Distinguishes a bad image from a broken stage."""

from collections.abc import Sequence

from service.engine.task import Task

_MAX_FAILED_BATCHES = 3


class StageBrokenError(RuntimeError):
    """A stage fails for every image; the worker must end."""


class StageHealth:
    """Counts consecutive batches of which every image failed, by stage.

    A stage is broken after three such batches with at least three different images, so that one bad image sent
    repeatedly breaks no stage.
    """

    def __init__(self, num_stages: int) -> None:
        self._failed_batches = [0] * num_stages
        self._failed_images: list[set[bytes]] = [set() for _ in range(num_stages)]

    def batch_ended(self, stage: int, size: int, failed: Sequence[Task]) -> None:
        """Record which tasks of a batch of `size` images failed.

        Raises:
            StageBrokenError: when the stage is broken.
        """
        images = self._failed_images[stage]
        if len(failed) < size:
            self._failed_batches[stage] = 0
            images.clear()
            return
        self._failed_batches[stage] += 1
        for task in failed:
            if len(images) < _MAX_FAILED_BATCHES:
                images.add(task.pixels.tobytes())
        if self._failed_batches[stage] >= _MAX_FAILED_BATCHES and len(images) >= _MAX_FAILED_BATCHES:
            raise StageBrokenError(
                f"stage {stage} failed for every image of {self._failed_batches[stage]} batches in a row"
            )
