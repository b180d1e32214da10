"""Which tasks have not ended yet, and the only way to end one."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from service.engine.interfaces import Observer
from service.engine.policy import ExitReason
from service.engine.task import Answer, Task
from service.errors import ClientLeftError, DeadlineExceededError, ServiceError


class Ledger:
    """Ends every task exactly once, and counts it as what it ended as.

    Whoever takes a task out of the ledger ends it; for everyone after that the task is gone. So the worker, a
    dying engine and a `stop` that lost patience may all try to end the same task, each from its own thread. A
    task whose future was cancelled by its holder counts as cancelled, whatever it would have ended as.

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
        """Take in a submitted task."""
        self._open[task.task_id] = task

    def get(self, task_id: int) -> Task | None:
        """The task, unless it has ended."""
        return self._open.get(task_id)

    def answer(
        self, task: Task, reason: ExitReason, where: str = "compute", lowered_threshold: float | None = None
    ) -> None:
        """End with the prediction of the last stage it finished.

        Args:
            lowered_threshold: what its policy's threshold had given way to, where that let it go.
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
        """End a task that no further stage can finish for in time: with the best answer so far, if there is one."""
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
        """End a task that its stage could not be computed for."""
        self._end(task, error, "compute", lambda: self._observer.image_failed(task.stage))

    def reject(self, task: Task, error: ServiceError) -> None:
        """End a task that the engine stopped before."""
        self._end(task, error, "queue", lambda: self._observer.image_rejected("not_ready"))

    def end_all(self, end: Callable[[Task], None]) -> None:
        """End every task that is left with `end`, one of the methods above."""
        for task in list(self._open.values()):
            # An observer that raises must not leave the next futures hanging.
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
