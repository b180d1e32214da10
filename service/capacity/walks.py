"""Ways to bring the same images through the same stages: each returns what it took."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import numpy as np
import numpy.typing as npt

from service.engine.engine import Engine
from service.engine.interfaces import Runner
from service.engine.policy import ExitReason, Policy
from service.engine.task import Answer, Pixels, StagePrediction, Task

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One pass over all images.

    Attributes:
        macs: executed, over all images; for rows that were done and still occupied their place as well.
        exits: how many images left at each stage.
        batch_sizes: sizes of the batches each stage ran.
        latencies_s: one per image, where images went one by one.
    """

    seconds: float
    macs: int
    exits: Counter[int]
    batch_sizes: dict[int, list[int]]
    latencies_s: Sequence[float] = ()


class BatchSizes:
    """An engine's observer that remembers every batch.

    Attributes:
        sizes: by stage.
        seconds: of each batch of `sizes`.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what has been."""
        self.sizes: dict[int, list[int]] = {}
        self.seconds: dict[int, list[float]] = {}

    def batch_done(self, stage: int, size: int, duration_s: float, queued_s: Sequence[float]) -> None:
        """A batch of `size` images ran."""
        self.sizes.setdefault(stage, []).append(size)
        self.seconds.setdefault(stage, []).append(duration_s)

    def image_exited(self, stage: int, reason: ExitReason, macs: int) -> None:
        """An image was answered."""

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused."""

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped."""

    def image_failed(self, stage: int, count: int = 1) -> None:
        """Images failed inside a stage."""

    def device_error(self, kind: str) -> None:
        """The device or the worker failed."""


class Saturated:
    """An engine that never lacks images: a new one is submitted for every one that leaves.

    Starts the engine's worker; `close` ends it.

    Raises:
        NotReadyError: the engine did not get ready.
    """

    _WARM_UP_TIMEOUT_S = 600.0
    _STOP_TIMEOUT_S = 60.0

    def __init__(self, runner: Runner, *, max_inflight: int, max_batch_size: int) -> None:
        self._observer = BatchSizes()
        self._max_inflight = max_inflight
        self._engine = Engine(runner, observer=self._observer, max_inflight=max_inflight, max_batch_size=max_batch_size)
        self._engine.start()
        self._engine.wait_ready(self._WARM_UP_TIMEOUT_S)

    def walk(self, images: Sequence[Pixels], policy: Policy) -> Walk:
        """Submit all images, never more than `max_inflight` at a time, and wait for the last."""
        self._observer.clear()
        room = threading.BoundedSemaphore(self._max_inflight)
        tasks = []
        started = time.perf_counter()
        for pixels in images:
            room.acquire()
            task = self._engine.submit(pixels, policy)
            task.future.add_done_callback(lambda _: room.release())
            tasks.append(task)
        answers = [task.future.result() for task in tasks]
        seconds = time.perf_counter() - started
        return Walk(
            seconds=seconds,
            macs=sum(answer.macs for answer in answers),
            exits=Counter(answer.prediction.stage for answer in answers),
            batch_sizes=self._observer.sizes,
        )

    def close(self) -> None:
        """End the worker thread."""
        self._engine.stop(drain=False, timeout_s=self._STOP_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """What happened to each image, in order of arrival; seconds of the performance counter, [N].

    Attributes:
        due_at: when it should have been submitted; what it waits counts from here.
    """

    due_at: Seconds
    submitted_at: Seconds
    ended_at: Seconds


def open_loop(
    engine: Engine, images: Sequence[Pixels], policy: Policy, arrivals_s: Seconds, *, max_inflight: int
) -> OpenLoop:
    """Submit images at these seconds from now, ascending, as long as there is room for them; and wait for all.

    With `max_inflight` images in flight, the next one waits until another has ended: the engine was built for so many.

    Keeps no task: thousands of them would set off collections of garbage that a server does not have.

    Raises:
        ServiceError: an image was not answered.
    """
    happened = OpenLoop(time.perf_counter() + arrivals_s, np.empty(len(arrivals_s)), np.empty(len(arrivals_s)))
    room, failures = threading.Semaphore(max_inflight), list[BaseException]()
    for number, due_at in enumerate(happened.due_at.tolist()):
        if (ahead_s := due_at - time.perf_counter()) > 0:
            time.sleep(ahead_s)
        room.acquire()
        happened.submitted_at[number] = time.perf_counter()
        task = engine.submit(images[number % len(images)], policy)
        task.future.add_done_callback(partial(_note, happened, number, room, failures))
    for _ in range(max_inflight):
        room.acquire()
    if failures:
        raise failures[0]
    return happened


def _note(
    happened: OpenLoop,
    number: int,
    room: threading.Semaphore,
    failures: list[BaseException],
    future: Future[Answer],
) -> None:
    happened.ended_at[number] = time.perf_counter()
    if (error := future.exception()) is not None:
        failures.append(error)
    room.release()


@dataclass(slots=True)
class _Ledger:
    """What a walk without an engine counts."""

    macs: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    batch_sizes: dict[int, list[int]] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)


def held_together(runner: Runner, images: Sequence[Pixels], policy: Policy, batch_size: int) -> Walk:
    """Batches that climb the stages as a whole until their slowest row may leave; rows that are done stay in.

    In a plain loop, without queues, threads or admission: what an engine around it would add is left out.
    With a batch size of 1 this is request by request.
    """
    ledger, ids = _Ledger(), count()
    started = time.perf_counter()
    for first in range(0, len(images), batch_size):
        group_started = time.perf_counter()
        tasks = [
            Task(task_id=next(ids), pixels=pixels, policy=policy, submitted_at=group_started)
            for pixels in images[first : first + batch_size]
        ]
        _climb(runner, tasks, ledger)
        ledger.latencies_s.append(time.perf_counter() - group_started)
    return Walk(
        seconds=time.perf_counter() - started,
        macs=ledger.macs,
        exits=ledger.exits,
        batch_sizes=ledger.batch_sizes,
        latencies_s=ledger.latencies_s if batch_size == 1 else (),
    )


def regrouped(runner: Runner, images: Sequence[Pixels], policy: Policy, batch_size: int, group_size: int) -> Walk:
    """The batches an engine should run, without one: groups of images go up stage by stage, those that left aside.

    In a plain loop, without queues, threads or admission, and with the same images before it as the engine has: what
    an engine takes longer is its own.

    Args:
        group_size: how many images may be on their way.
    """
    ledger, ids = _Ledger(), count()
    started = time.perf_counter()
    for first in range(0, len(images), group_size):
        waiting = [
            Task(task_id=next(ids), pixels=pixels, policy=policy, submitted_at=started)
            for pixels in images[first : first + group_size]
        ]
        for stage in range(len(runner.stage_macs)):
            batches = [waiting[at : at + batch_size] for at in range(0, len(waiting), batch_size)]
            waiting = [task for batch in batches for task in _escalating(runner, stage, batch, ledger)]
    return Walk(
        seconds=time.perf_counter() - started, macs=ledger.macs, exits=ledger.exits, batch_sizes=ledger.batch_sizes
    )


def _escalating(runner: Runner, stage: int, tasks: Sequence[Task], ledger: _Ledger) -> list[Task]:
    """Run one batch; the tasks that go on, whose state is kept."""
    predictions = runner.run(stage, tasks)
    ledger.macs += runner.stage_macs[stage] * len(tasks)
    ledger.batch_sizes.setdefault(stage, []).append(len(tasks))
    leaving = {row for row, task in enumerate(tasks) if _leaves(runner, stage, task, predictions[row])}
    ledger.exits[stage] += len(leaving)
    going_on = [row for row in range(len(tasks)) if row not in leaving]
    runner.keep(going_on)
    runner.release([tasks[row] for row in leaving])
    return [tasks[row] for row in going_on]


def _climb(runner: Runner, tasks: Sequence[Task], ledger: _Ledger) -> None:
    waiting = set(range(len(tasks)))
    for stage, macs in enumerate(runner.stage_macs):
        predictions = runner.run(stage, tasks)
        ledger.macs += macs * len(tasks)
        ledger.batch_sizes.setdefault(stage, []).append(len(tasks))
        leaving = {row for row in waiting if _leaves(runner, stage, tasks[row], predictions[row])}
        ledger.exits[stage] += len(leaving)
        waiting -= leaving
        if not waiting:
            break
        runner.keep(range(len(tasks)))
    runner.release(tasks)


def _leaves(runner: Runner, stage: int, task: Task, prediction: StagePrediction) -> bool:
    next_macs = sum(runner.stage_macs[: stage + 2]) if stage + 1 < len(runner.stage_macs) else None
    return task.policy.exit_reason(stage, prediction.confidence, next_macs) is not None
