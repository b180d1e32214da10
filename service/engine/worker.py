"""The worker thread: it owns the scheduler, the runner and every task until the task ends."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from itertools import accumulate
from queue import SimpleQueue

from service.engine.batch_limits import BatchLimits
from service.engine.device_errors import is_out_of_memory
from service.engine.interfaces import Observer, Runner
from service.engine.ledger import Ledger
from service.engine.load import Shedding
from service.engine.policy import ExitReason
from service.engine.scheduler import Scheduler
from service.engine.stage_health import StageHealth
from service.engine.stage_times import StageTimes
from service.engine.task import StagePrediction, Task
from service.errors import ClientLeftError, DeadlineExceededError, DeviceLostError, InferenceError, ServiceError

_logger = logging.getLogger(__name__)


class Signal(Enum):
    """Messages to the worker other than tasks."""

    CANCELLED = auto()
    """A task may have been cancelled."""
    DRAIN = auto()
    """Stop as soon as nothing waits."""
    STOP = auto()
    """Stop after the step in progress."""


_Row = tuple[Task, StagePrediction, ExitReason | ServiceError | None]
"""A row of a computed batch and how it ends; None escalates."""


class Worker:
    """Forms batches, runs them, and ends or escalates their tasks until it is stopped.

    Tasks and signals arrive in `inbox`. An error of one row fails that row. Other errors, including a broken stage, are
    raised by `serve`; the caller then ends the tasks that are left in `ledger`.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(
        self, runner: Runner, *, observer: Observer, max_batch_size: int, clock: Callable[[], float], shedding: Shedding
    ) -> None:
        self.inbox: SimpleQueue[Task | Signal] = SimpleQueue()
        self._walk_macs = tuple(accumulate(runner.stage_macs))
        num_stages = len(self._walk_macs)
        self.ledger = Ledger(observer, self._walk_macs)
        self.times = StageTimes(num_stages)
        self._runner = runner
        self._observer = observer
        self._limits = BatchLimits(num_stages, max_batch_size)
        self._health = StageHealth(num_stages)
        self._scheduler = Scheduler(num_stages, self._limits, self.times)
        self._shedding = shedding
        self._clock = clock
        self._draining = self._stopped = False
        self._busy_since: float | None = None

    @property
    def busy_s(self) -> float:
        """Duration so far of the step in progress; 0 between steps."""
        since = self._busy_since
        return 0.0 if since is None else self._clock() - since

    def queue_depths(self) -> tuple[int, ...]:
        """Number of waiting tasks by stage; messages in the inbox count for stage 0."""
        first, *others = self._scheduler.queue_depths()
        return first + self.inbox.qsize(), *others

    def learn(self, times: Iterable[tuple[int, int, float]]) -> None:
        """Learn durations and the largest useful batch sizes from the warm-up's (stage, batch size, seconds)."""
        largest: dict[int, int] = {}
        for stage, size, seconds in times:
            self.times.observe(stage, size, seconds)
            largest[stage] = max(size, largest.get(stage, 0))
        for stage, size in largest.items():
            self._limits.cap(stage, size)

    def serve(self) -> None:
        """Work until stopped; sleeps while no task waits."""
        while self.turn():
            pass
        self._runner.release(self._scheduler.drain())

    def turn(self) -> bool:
        """Receive messages, waiting for them when idle, and run one batch; returns False at the end."""
        self._receive()
        if self._stopped or (self._draining and not self._scheduler):
            return False
        self._step()
        return True

    def _receive(self) -> None:
        block = not self._scheduler and not self._draining
        if block and self.inbox.empty():
            self._shedding.idle(self._clock())
        while block or not self.inbox.empty():
            message = self.inbox.get()
            block = False
            match message:
                case Task():
                    self._scheduler.add(message, message.submitted_at)
                case Signal.CANCELLED:
                    self._scheduler.expect_cancelled()
                case Signal.DRAIN:
                    self._draining = True
                case Signal.STOP:
                    self._stopped = True

    def _step(self) -> None:
        now = self._busy_since = self._clock()
        self._shedding.update(now)
        step = self._scheduler.next_step(now)
        for task in (*step.dropped, *step.batch):
            task.queue_s += now - task.enqueued_at
        self._runner.release(step.dropped)
        for task in step.dropped:
            if task.cancelled:
                self.ledger.end(task, _client_left(), "queue")
            elif task.predictions:
                self.ledger.answer(task, ExitReason.DEADLINE, "queue")
            else:
                self.ledger.end(task, DeadlineExceededError("no stage could finish by the deadline"), "queue")
        if step.batch:
            failed = self._attempt(step.stage, step.batch, now)
            self._health.batch_ended(step.stage, len(step.batch), failed)
        self._busy_since = None

    def _attempt(self, stage: int, tasks: Sequence[Task], step_started: float) -> list[Task]:
        """Run a batch; if it fails, run its halves, down to single rows. Returns the failed tasks."""
        attempt_started = self._clock()
        try:
            predictions = self._runner.run(stage, tasks)
            rows = [(*row, self._judge(stage, *row)) for row in zip(tasks, predictions, strict=True)]
            # No row is settled before the state is stored, so that a failure here can be retried.
            self._runner.keep([index for index, (_, _, verdict) in enumerate(rows) if verdict is None])
        except DeviceLostError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                self._limits.out_of_memory(stage, len(tasks))
                _logger.warning("stage %d ran out of memory with %d images", stage, len(tasks))
            elif len(tasks) == 1:
                _logger.warning("stage %d failed for one image", stage, exc_info=error)
        else:
            return self._settle(stage, rows, attempt_started, step_started)
        # Outside of `except`: the error's traceback holds the batch's memory, which the halves may need.
        if len(tasks) > 1:
            middle = len(tasks) // 2
            failed = self._attempt(stage, tasks[:middle], step_started)
            return failed + self._attempt(stage, tasks[middle:], step_started)
        self._runner.release(tasks)
        failure = InferenceError(f"stage {stage} could not be computed for this image")
        self.ledger.end(tasks[0], failure, "compute")
        return list(tasks)

    def _judge(self, stage: int, task: Task, prediction: StagePrediction) -> ExitReason | ServiceError | None:
        if task.cancelled:
            return _client_left()
        if not all(map(math.isfinite, prediction.probs)):
            return InferenceError(f"stage {stage} gave probabilities that are not finite")
        next_macs = self._walk_macs[stage + 1] if stage + 1 < len(self._walk_macs) else None
        reason = task.policy.exit_reason(stage, prediction.confidence, next_macs)
        if reason is None and stage >= task.policy.min_stage:
            lowered = self._shedding.threshold(stage, task.policy)
            if lowered is not None and prediction.confidence >= lowered:
                return ExitReason.LOAD
        return reason

    def _settle(self, stage: int, rows: Sequence[_Row], attempt_started: float, step_started: float) -> list[Task]:
        """End or escalate the rows of a computed batch; returns the tasks with non-finite probabilities."""
        now = self._clock()
        queued_s = [step_started - task.enqueued_at for task, _, _ in rows]
        self._observer.batch_done(stage, len(rows), now - attempt_started, queued_s)
        self.times.observe(stage, len(rows), now - attempt_started)
        self._limits.fitted(stage, len(rows))
        # Released before the answers are set: an answered image holds no state.
        self._runner.release([task for task, _, verdict in rows if verdict is not None])
        for task, prediction, verdict in rows:
            task.compute_s += now - step_started
            task.predictions.append(prediction)
            match verdict:
                case None:
                    task.stage += 1
                    self._scheduler.add(task, now)
                case ServiceError():
                    self.ledger.end(task, verdict, "compute")
                case ExitReason.LOAD:
                    self.ledger.answer(task, verdict, lowered_threshold=self._shedding.threshold(stage, task.policy))
                case _:
                    self.ledger.answer(task, verdict)
        return [task for task, _, verdict in rows if isinstance(verdict, InferenceError)]


def _client_left() -> ClientLeftError:
    return ClientLeftError("the client left before the answer was ready")
