"""Ways to run images through the stages of a cascade; each measures what it takes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from service.engine.engine import Engine
from service.engine.interfaces import Observer, Runner
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels, Task

Seconds = npt.NDArray[np.float64]

_ENGINE_START_TIMEOUT_S = 600.0
_ENGINE_STOP_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Walk:
    """One pass over all images.

    Attributes:
        seconds: duration of the pass.
        macs: executed MACs of all images, including rows that stayed in their batch after their exit.
        exits: number of images that left at each stage.
        batch_sizes: sizes of the batches that each stage ran.
        latencies_s: one per image, if images ran one by one.
    """

    seconds: float = 0.0
    macs: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    batch_sizes: dict[int, list[int]] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of images."""
        return self.exits.total()


class BatchSizes(Observer):
    """Remembers every batch of an engine.

    Attributes:
        sizes: batch sizes by stage.
        seconds: duration of each batch of `sizes`.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self.sizes: dict[int, list[int]] = {}
        self.seconds: dict[int, list[float]] = {}

    def batch_done(self, stage: int, size: int, duration_s: float, queued_s: Sequence[float]) -> None:
        """A batch of `size` images ran."""
        self.sizes.setdefault(stage, []).append(size)
        self.seconds.setdefault(stage, []).append(duration_s)


@contextmanager
def running_engine(runner: Runner, observer: Observer, *, max_inflight: int, max_batch_size: int) -> Iterator[Engine]:
    """Start an engine and wait until it is ready; stop it at the end.

    Raises:
        NotReadyError: the engine did not get ready.
    """
    engine = Engine(runner, observer=observer, max_inflight=max_inflight, max_batch_size=max_batch_size)
    engine.start()
    try:
        engine.wait_ready(_ENGINE_START_TIMEOUT_S)
        yield engine
    finally:
        engine.stop(drain=False, timeout_s=_ENGINE_STOP_TIMEOUT_S)


def saturated(engine: Engine, batches: BatchSizes, images: Sequence[Pixels], policy: Policy, max_inflight: int) -> Walk:
    """Submit all images, always with as many in flight as `max_inflight` allows, and wait for the last answer.

    Args:
        batches: the engine's observer.
    """
    batches.clear()
    room = threading.BoundedSemaphore(max_inflight)
    tasks = []
    started = time.perf_counter()
    for pixels in images:
        room.acquire()
        task = engine.submit(pixels, policy)
        task.future.add_done_callback(lambda _: room.release())
        tasks.append(task)
    answers = [task.future.result() for task in tasks]
    return Walk(
        seconds=time.perf_counter() - started,
        macs=sum(answer.macs for answer in answers),
        exits=Counter(answer.prediction.stage for answer in answers),
        batch_sizes=batches.sizes,
    )


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Times of each image, in order of arrival; seconds of the performance counter, [N].

    Attributes:
        due_at: intended time of submission.
    """

    due_at: Seconds
    submitted_at: Seconds
    ended_at: Seconds


def open_loop(
    engine: Engine, images: Sequence[Pixels], policy: Policy, arrivals_s: Seconds, *, max_inflight: int
) -> OpenLoop:
    """Submit images at these seconds from now, ascending, and wait for all answers.

    While `max_inflight` images are in flight, the next one waits, because the engine has no room for more.

    Raises:
        ServiceError: an image was not answered.
    """
    times = OpenLoop(time.perf_counter() + arrivals_s, np.empty(len(arrivals_s)), np.empty(len(arrivals_s)))
    room, failures = threading.Semaphore(max_inflight), list[BaseException]()

    def ended(number: int, future: Future[Answer]) -> None:
        times.ended_at[number] = time.perf_counter()
        if (error := future.exception()) is not None:
            failures.append(error)
        room.release()

    # Tasks are not kept: thousands of objects would cause garbage collections that a server does not have.
    for number, due_at in enumerate(times.due_at.tolist()):
        if (ahead_s := due_at - time.perf_counter()) > 0:
            time.sleep(ahead_s)
        room.acquire()
        times.submitted_at[number] = time.perf_counter()
        task = engine.submit(images[number % len(images)], policy)
        task.future.add_done_callback(partial(ended, number))
    for _ in range(max_inflight):
        room.acquire()
    if failures:
        raise failures[0]
    return times


def held_together(runner: Runner, images: Sequence[Pixels], policy: Policy, batch_size: int) -> Walk:
    """Run whole batches up the stages until the slowest row leaves; rows that are done stay in the batch.

    A plain loop without queues, threads or admission. With a batch size of 1 this is request by request.
    """
    walk, started = Walk(), time.perf_counter()
    for tasks in _groups(images, policy, batch_size):
        group_started = time.perf_counter()
        waiting = set(range(len(tasks)))
        for stage in range(len(runner.stage_macs)):
            leaving = waiting & _run(runner, stage, tasks, walk)
            walk.exits[stage] += len(leaving)
            waiting -= leaving
            if not waiting:
                break
            runner.keep(range(len(tasks)))
        runner.release(tasks)
        if batch_size == 1:
            walk.latencies_s.append(time.perf_counter() - group_started)
    walk.seconds = time.perf_counter() - started
    return walk


def _groups(images: Sequence[Pixels], policy: Policy, size: int) -> Iterator[list[Task]]:
    for first in range(0, len(images), size):
        yield [
            Task(task_id=first + row, pixels=pixels, policy=policy, submitted_at=0.0)
            for row, pixels in enumerate(images[first : first + size])
        ]


def _run(runner: Runner, stage: int, tasks: Sequence[Task], walk: Walk) -> set[int]:
    """Run one batch; the rows that may leave."""
    predictions = runner.run(stage, tasks)
    walk.macs += runner.stage_macs[stage] * len(tasks)
    walk.batch_sizes.setdefault(stage, []).append(len(tasks))
    next_macs = sum(runner.stage_macs[: stage + 2]) if stage + 1 < len(runner.stage_macs) else None
    return {
        row
        for row, (task, prediction) in enumerate(zip(tasks, predictions, strict=True))
        if task.policy.exit_reason(stage, prediction.confidence, next_macs) is not None
    }
