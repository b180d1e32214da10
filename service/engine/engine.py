"""The engine's public interface: submission, cancellation, start and stop."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from functools import partial
from itertools import count

from service.engine.interfaces import Observer, Runner
from service.engine.load import Ladder, Shedding
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels, Task
from service.engine.worker import Signal, Worker
from service.errors import DeviceLostError, NotReadyError

_logger = logging.getLogger(__name__)


class EngineState(StrEnum):
    """The life cycle of the engine."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"


class Engine:
    """Computes the exit of each image on one worker thread; its methods may be called from any thread.

    Every submitted task's future ends with an answer or with one of `service.errors`. The caller limits the number of
    images.

    Args:
        runner: after `start`, only the worker thread uses it.
        max_inflight: the most images admitted at a time; the load is the share of them in the engine.
        clock: seconds, monotonic.
        ladder: lowered thresholds for load shedding; None switches load shedding off.

    Attributes:
        stage_macs, baseline_macs, dtype: those of the runner.
        state: the state in the engine's life cycle; only the engine sets it.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        observer: Observer,
        max_inflight: int,
        max_batch_size: int,
        clock: Callable[[], float] = time.monotonic,
        ladder: Ladder | None = None,
    ) -> None:
        self.stage_macs, self.baseline_macs, self.dtype = runner.stage_macs, runner.baseline_macs, runner.dtype
        self.state = EngineState.STARTING
        self._runner = runner
        self._observer = observer
        self._clock = clock
        self._shedding = Shedding() if ladder is None else Shedding(ladder, lambda: len(self._ledger) / max_inflight)
        self._worker = Worker(
            runner, observer=observer, max_batch_size=max_batch_size, clock=clock, shedding=self._shedding
        )
        self._ledger = self._worker.ledger
        self._task_ids = count()
        self._state_changed = threading.Condition()
        self._cause_of_death: BaseException | None = None
        # A daemon thread, so that a hung device cannot prevent the process from ending.
        self._thread = threading.Thread(target=self._run, name="dvt-engine", daemon=True)

    @property
    def busy_s(self) -> float:
        """Duration so far of the step in progress, 0 between steps; it grows while a device hangs."""
        return self._worker.busy_s

    @property
    def load_level(self) -> int:
        """Level of load shedding, from 0 (off) to `load.NUM_LEVELS`."""
        return self._shedding.level(self._clock())

    @property
    def running(self) -> bool:
        """Whether the worker thread is alive; it may outlive `stop`."""
        return self._thread.is_alive()

    def queue_depths(self) -> tuple[int, ...]:
        """Number of waiting tasks by stage."""
        return self._worker.queue_depths()

    def start(self) -> None:
        """Start the worker thread; the engine is ready after its warm-up. Callable once.

        Raises:
            NotReadyError: when the engine was already stopped.
        """
        with self._state_changed:
            self._require(EngineState.STARTING)
            self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the warm-up has finished.

        Raises:
            NotReadyError: when the warm-up failed or takes longer; chained to the cause.
        """
        with self._state_changed:
            self._state_changed.wait_for(lambda: self.state is not EngineState.STARTING, timeout_s)
            self._require(EngineState.READY)

    def submit(self, pixels: Pixels, policy: Policy) -> Task:
        """Start the walk of an admitted image; allowed while draining, because it was admitted before.

        From now on the engine counts the image's outcome, including a refusal as not ready. Cancelling the task's
        future has the same effect as `cancel`.

        Raises:
            NotReadyError: when the engine is starting, stopped or dead.
        """
        now = self._clock()
        # With the lock, a submission is refused, or its task is in the ledger before the engine ends all of them.
        with self._state_changed:
            try:
                self._require(EngineState.READY, EngineState.DRAINING)
            except NotReadyError:
                self._observer.image_rejected("not_ready")
                raise
            task = Task(task_id=next(self._task_ids), pixels=pixels, policy=policy, submitted_at=now)
            self._ledger.open(task)
            # By id: a callback that held the task would form a reference cycle of task, pixels and future.
            task.future.add_done_callback(partial(self._on_done, task.task_id))
            self._worker.inbox.put(task)
        return task

    def cancel(self, task: Task) -> None:
        """Start no further stage for a task and end it with `ClientLeftError`, unless it has ended."""
        if self._ledger.get(task.task_id) is not None:
            task.cancelled = True
            self._worker.inbox.put(Signal.CANCELLED)

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Stop the worker thread. The step in progress finishes; a warm-up is not awaited.

        Args:
            drain: finish submitted tasks first; otherwise they end with `NotReadyError`.
            timeout_s: then the remaining tasks end with `NotReadyError`, even if the worker hangs.
        """
        with self._state_changed:
            if self.state is EngineState.STARTING:
                timeout_s = 0.0  # no task was submitted
            if self.state in (EngineState.STARTING, EngineState.READY):
                self._enter(EngineState.DRAINING)
        if self.running:
            self._worker.inbox.put(Signal.DRAIN if drain else Signal.STOP)
            self._thread.join(timeout_s)
        if self.running:
            self._worker.inbox.put(Signal.STOP)
        self._close()

    def _run(self) -> None:
        kind = "warm_up"
        try:
            self._worker.learn(self._runner.warm_up() or ())
            with self._state_changed:
                if self.state is EngineState.STARTING:
                    self._enter(EngineState.READY)
            kind = "worker"
            self._worker.serve()
        except BaseException as error:
            self._die("device_lost" if isinstance(error, DeviceLostError) else kind, error)
        else:
            self._close()

    def _die(self, kind: str, cause: BaseException) -> None:
        def make_error() -> DeviceLostError:
            error = DeviceLostError("the engine failed for good and cannot compute any more")
            error.__cause__ = cause
            return error

        _logger.critical("the engine is dead: %s", kind, exc_info=cause)
        with self._state_changed:
            self._cause_of_death = cause
            self._enter(EngineState.DEAD)
        self._ledger.end_all(make_error)
        self._observer.device_error(kind)

    def _close(self) -> None:
        with self._state_changed:
            if self.state is not EngineState.DEAD:
                self._enter(EngineState.STOPPED)
        self._ledger.end_all(lambda: NotReadyError("the engine was stopped"))

    def _enter(self, state: EngineState) -> None:
        self.state = state
        self._state_changed.notify_all()

    def _require(self, *states: EngineState) -> None:
        if self.state not in states:
            raise NotReadyError(f"the engine is {self.state}") from self._cause_of_death

    def _on_done(self, task_id: int, future: Future[Answer]) -> None:
        task = self._ledger.get(task_id)
        if task is not None and future.cancelled():
            self.cancel(task)
