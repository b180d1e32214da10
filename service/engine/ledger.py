"""The tasks that have not ended, and the methods that end a task."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from service.engine.interfaces import Observer
from service.engine.policy import ExitReason
from service.engine.task import Answer, Task
from service.errors import ClientLeftError, DeadlineExceededError, ServiceError


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
        self._walk_macs = tuple(walk_macs)
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
        """End a task with the prediction of its last finished stage.

        Args:
            lowered_threshold: the threshold in force, if load shedding had lowered it.
        """
        prediction = task.predictions[-1]
        threshold = task.policy.threshold(prediction.stage) if lowered_threshold is None else lowered_threshold
        answer = Answer(
            prediction=prediction,
            reason=reason,
            threshold=threshold,
            macs=self._walk_macs[prediction.stage],
            config_version=task.policy.config_version,
            queue_s=task.queue_s,
            compute_s=task.compute_s,
            trace=tuple(task.predictions) if task.policy.trace else (),
        )
        self._end(task, answer, where, lambda: self._observer.image_exited(prediction.stage, reason, answer.macs))

    def expire(self, task: Task) -> None:
        """End a task that cannot finish another stage before its deadline, with the last prediction if there is one."""
        if task.predictions:
            self.answer(task, ExitReason.DEADLINE, where="queue")
        else:
            error = DeadlineExceededError("no stage could finish by the deadline")
            self._end(task, error, "queue", lambda: self._observer.image_rejected("deadline"))

    def cancel(self, task: Task, where: str) -> None:
        """End a task whose client left."""
        error = ClientLeftError("the client left before the answer was ready")
        self._end(task, error, where, lambda: self._observer.image_cancelled(where))

    def fail(self, task: Task, error: ServiceError) -> None:
        """End a task whose stage could not be computed."""
        self._end(task, error, "compute", lambda: self._observer.image_failed(task.stage))

    def reject(self, task: Task, error: ServiceError) -> None:
        """End a task because the engine stopped."""
        self._end(task, error, "queue", lambda: self._observer.image_rejected("not_ready"))

    def end_all(self, end: Callable[[Task], None]) -> None:
        """End every remaining task with `end`, one of the methods above."""
        for task in list(self._open.values()):
            # An observer that raises must not leave other futures unresolved.
            with suppress(Exception):
                end(task)

    def _end(self, task: Task, outcome: Answer | ServiceError, where: str, count: Callable[[], None]) -> None:
        if self._open.pop(task.task_id, None) is None:
            return
        if not task.future.set_running_or_notify_cancel():
            self._observer.image_cancelled(where)
            return
        try:
            count()
        finally:
            if isinstance(outcome, Answer):
                task.future.set_result(outcome)
            else:
                task.future.set_exception(outcome)
