"""The engine as its users see it: submission, cancellation and the life of the worker thread."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from functools import partial
from itertools import accumulate, count

from service.engine.interfaces import Observer, Runner
from service.engine.ledger import Ledger
from service.engine.load import Ladder, Shedding
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels, Task
from service.engine.worker import Signal, Worker
from service.errors import DeviceLostError, NotReadyError

_logger = logging.getLogger(__name__)


class EngineState(StrEnum):
    """Where the engine is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"


class Engine:
    """Computes the exit of each image on one worker thread; its methods may be called from any thread.

    Every submitted task's future ends: with an answer, or with one of `service.errors`. How many images are admitted is
    decided by those who submit them.

    Args:
        runner: used by the worker thread only, from `start` on.
        max_inflight: how many images are admitted at most at a time; the load is a part of it.
        clock: seconds, monotonic.
        ladder: thresholds that the configuration's give way to under load; without it nothing gives way.
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
        self._runner = runner
        self._observer = observer
        self._clock = clock
        walk_macs = tuple(accumulate(runner.stage_macs))
        self._ledger = Ledger(observer, walk_macs)
        self._shedding = None if ladder is None else Shedding(ladder, lambda: len(self._ledger) / max_inflight)
        self._worker = Worker(
            runner,
            ledger=self._ledger,
            observer=observer,
            walk_macs=walk_macs,
            max_batch_size=max_batch_size,
            clock=clock,
            shedding=self._shedding,
        )
        self._task_ids = count()
        self._state = EngineState.STARTING
        self._state_changed = threading.Condition()
        self._cause_of_death: BaseException | None = None
        # A daemon: a device that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="dvt-engine", daemon=True)

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._state

    @property
    def stage_macs(self) -> tuple[int, ...]:
        """MACs of each stage for one image."""
        return self._runner.stage_macs

    @property
    def baseline_macs(self) -> int:
        """MACs of one plain ViT at the last grid, for one image."""
        return self._runner.baseline_macs

    @property
    def dtype(self) -> str:
        """Floating point type the stages are computed in."""
        return self._runner.dtype

    @property
    def busy_s(self) -> float:
        """Seconds the step in progress has taken so far, 0 between steps; a hung device shows here."""
        return self._worker.busy_s

    @property
    def load_level(self) -> int:
        """How far thresholds have given way to the load, from 0, not at all, to `load.NUM_LEVELS`."""
        return 0 if self._shedding is None else self._shedding.level(self._clock())

    def queue_depths(self) -> tuple[int, ...]:
        """How many tasks wait for each stage."""
        return self._worker.queue_depths()

    @property
    def running(self) -> bool:
        """Whether the worker thread is there, which may outlive `stop`."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the worker thread; it warms up, then the engine is ready. Once only.

        Raises:
            NotReadyError: when the engine was stopped before.
        """
        with self._state_changed:
            self._require(EngineState.STARTING)
            self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the warm-up is over.

        Raises:
            NotReadyError: when it failed, from its cause, or is not over in time.
        """
        with self._state_changed:
            self._state_changed.wait_for(lambda: self._state is not EngineState.STARTING, timeout_s)
            self._require(EngineState.READY)

    def submit(self, pixels: Pixels, policy: Policy) -> Task:
        """Send one admitted image on its walk; also while draining, since it was admitted before.

        From here on the engine counts what becomes of the image, also when it refuses it as not ready.

        Returns:
            The task. Its future ends with an `Answer` or one of `service.errors`; cancelling the future is as
            good as `cancel`.

        Raises:
            NotReadyError: when the engine is starting, stopped or dead.
        """
        now = self._clock()
        # Under the lock a submission that races with the end falls on one side of it: it is refused, or its
        # task is in the ledger when the end comes and ends with the rest.
        with self._state_changed:
            try:
                self._require(EngineState.READY, EngineState.DRAINING)
            except NotReadyError:
                self._observer.image_rejected("not_ready")
                raise
            task_id = next(self._task_ids)
            task = Task(task_id=task_id, pixels=pixels, policy=policy, submitted_at=now, deadline=policy.deadline)
            self._ledger.open(task)
            # By number: a callback that held the task would tie its pixels into a cycle with its future.
            task.future.add_done_callback(partial(self._on_done, task_id))
            self._worker.inbox.put(task)
        return task

    def cancel(self, task: Task) -> None:
        """Give up a task: no further stage is started for it, and its future ends with `ClientLeftError`.

        Does nothing for a task that has ended.
        """
        if self._ledger.get(task.task_id) is not None:
            task.cancelled = True
            self._worker.inbox.put(Signal.CANCELLED)

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End the worker thread; the step in progress is finished either way, a warm-up is not waited for.

        Args:
            drain: finish what was submitted first; otherwise it ends with `NotReadyError`.
            timeout_s: after which whatever is left ends with `NotReadyError`, even if the worker hangs.
        """
        with self._state_changed:
            if self._state is EngineState.STARTING:
                timeout_s = 0.0  # nothing was taken in that would have to be finished
            if self._state in (EngineState.STARTING, EngineState.READY):
                self._enter(EngineState.DRAINING)
        if self._thread.is_alive():
            self._worker.inbox.put(Signal.DRAIN if drain else Signal.STOP)
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._worker.inbox.put(Signal.STOP)
        self._close()

    def _run(self) -> None:
        kind = "warm_up"
        try:
            self._worker.learn(self._runner.warm_up() or ())
            with self._state_changed:
                if self._state is EngineState.STARTING:
                    self._enter(EngineState.READY)
            kind = "worker"
            self._worker.serve()
        except BaseException as error:
            self._die("device_lost" if isinstance(error, DeviceLostError) else kind, error)
        else:
            self._close()

    def _die(self, kind: str, cause: BaseException) -> None:
        _logger.critical("the engine is dead: %s", kind, exc_info=cause)
        with self._state_changed:
            self._cause_of_death = cause
            self._enter(EngineState.DEAD)
        self._ledger.end_all(lambda task: self._ledger.fail(task, _device_lost(cause)))
        self._observer.device_error(kind)

    def _close(self) -> None:
        with self._state_changed:
            if self._state is not EngineState.DEAD:
                self._enter(EngineState.STOPPED)
        self._ledger.end_all(lambda task: self._ledger.reject(task, NotReadyError("the engine was stopped")))

    def _enter(self, state: EngineState) -> None:
        self._state = state
        self._state_changed.notify_all()

    def _require(self, *states: EngineState) -> None:
        if self._state not in states:
            raise NotReadyError(f"the engine is {self._state}") from self._cause_of_death

    def _on_done(self, task_id: int, future: Future[Answer]) -> None:
        task = self._ledger.get(task_id)
        if task is not None and future.cancelled():
            self.cancel(task)


def _device_lost(cause: BaseException) -> DeviceLostError:
    error = DeviceLostError("the engine failed for good and cannot compute any more")
    error.__cause__ = cause
    return error
