"""The interfaces of the engine to the code around it: a runner of stages, and an observer."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from service.engine.policy import ExitReason
from service.engine.task import StagePrediction, Task


class Runner(Protocol):
    """Runs one stage on one batch. Called from the worker thread only.

    `run` leaves the batch's reuse state pending. `keep` stores it for the rows that escalate; it must be called before
    the next `run`. `release` frees the stored state of tasks; tasks without state are allowed.

    Attributes:
        stage_macs: MACs of each stage for one image.
        baseline_macs: MACs of one plain ViT at the last grid, for one image.
        dtype: floating point type of the stages.
    """

    stage_macs: tuple[int, ...]
    baseline_macs: int
    dtype: str

    def warm_up(self) -> Iterable[tuple[int, int, float]] | None:
        """Run every stage once, before the first request.

        Returns:
            (stage, batch size, seconds) of warm batches, if measured. Afterwards no larger batch of these stages runs.
        """

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Compute `stage` for these tasks; one prediction per task, in order.

        Raises:
            DeviceLostError: the device cannot compute any more. Any other exception counts as a failed batch.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the reuse state of these rows of the last batch for their next stage."""

    def release(self, tasks: Sequence[Task]) -> None:
        """Free the reuse state of these tasks."""


class Observer:
    """Receives the engine's events and ignores them; subclasses override methods. Called from several threads."""

    def batch_done(self, stage: int, size: int, duration_s: float, queued_s: Sequence[float]) -> None:
        """A batch of `size` images ran for `duration_s`; its rows had waited for `queued_s`. Must not block."""

    def image_exited(self, stage: int, reason: ExitReason, macs: int) -> None:
        """An image was answered."""

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused: `full`, `not_ready`, `undecodable`, `too_large` or `deadline`."""

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped because their client left: in `decode`, `queue` or `compute`."""

    def image_failed(self, stage: int) -> None:
        """An image failed inside a stage."""

    def device_error(self, kind: str) -> None:
        """The device or the worker failed."""
