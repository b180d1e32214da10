"""The tasks that have not ended, and how a task ends."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from service.engine.interfaces import Observer
from service.engine.policy import ExitReason
from service.engine.task import Answer, Task
from service.errors import ClientLeftError, DeadlineExceededError, NotReadyError, ServiceError


class Ledger:
    """Ends every task exactly once and counts its outcome.

    The first call that ends a task removes it; later calls for the task do nothing. So the worker, a dying engine and
    `stop` after its timeout may try to end the same task from different threads. A task whose future was cancelled
    counts as cancelled.

    Args:
        walk_macs: MACs of the walk up to each stage, that stage included.
    """

    def __init__(self, observer: Observer, walk_macs: Sequence[int]) -> None:
        self._observer = observer
        self._walk_macs = walk_macs
        self._open: dict[int, Task] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, task: Task) -> None:
        """Add a submitted task."""
        self._open[task.task_id] = task

    def get(self, task_id: int) -> Task | None:
        """The task, unless it has ended."""
        return self._open.get(task_id)

    def answer(
        self, task: Task, reason: ExitReason, where: str = "compute", lowered_threshold: float | None = None
    ) -> None:
        """End a task with the prediction of its last finished stage, under a threshold that may have been lowered."""
        prediction = task.predictions[-1]
        threshold = task.policy.threshold(prediction.stage)
        answer = Answer(
            prediction=prediction,
            reason=reason,
            threshold=threshold if lowered_threshold is None else lowered_threshold,
            macs=self._walk_macs[prediction.stage],
            config_version=task.policy.config_version,
            queue_s=task.queue_s,
            compute_s=task.compute_s,
            trace=tuple(task.predictions) if task.policy.trace else (),
        )
        self.end(task, answer, where)

    def end(self, task: Task, outcome: Answer | ServiceError, where: str) -> None:
        """End a task; if its client has left, it is counted as cancelled in `where`: `queue` or `compute`."""
        if self._open.pop(task.task_id, None) is None:
            return
        if not task.future.set_running_or_notify_cancel():
            self._observer.image_cancelled(where)
            return
        try:
            self._count(task, outcome, where)
        finally:
            if isinstance(outcome, Answer):
                task.future.set_result(outcome)
            else:
                task.future.set_exception(outcome)

    def end_all(self, make_error: Callable[[], ServiceError]) -> None:
        """End every remaining task with an error of its own."""
        for task in list(self._open.values()):
            # An observer that raises must not leave other futures unresolved.
            with suppress(Exception):
                self.end(task, make_error(), "queue")

    def _count(self, task: Task, outcome: Answer | ServiceError, where: str) -> None:
        match outcome:
            case Answer():
                self._observer.image_exited(outcome.prediction.stage, outcome.reason, outcome.macs)
            case ClientLeftError():
                self._observer.image_cancelled(where)
            case DeadlineExceededError():
                self._observer.image_rejected("deadline")
            case NotReadyError():
                self._observer.image_rejected("not_ready")
            case _:
                self._observer.image_failed(task.stage)
