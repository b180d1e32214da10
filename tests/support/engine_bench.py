"""A worker without a thread: nothing in its tests waits, and nothing races."""

from dataclasses import replace
from itertools import count

import numpy as np
from engine_fakes import FakeClock, FakeRunner, RecordingObserver, policy

from service.engine.load import Shedding
from service.engine.policy import Policy
from service.engine.task import Task
from service.engine.worker import Signal, Worker


class Bench:
    """Submits as the engine does; `serve` then works on the test's own thread until nothing is left.

    What should happen in the middle of a stage goes into `runner.fault`, which is called there.
    """

    def __init__(self, shedding: Shedding | None = None) -> None:
        self.runner, self.observer, self.clock = FakeRunner(), RecordingObserver(), FakeClock()
        shedding = shedding or Shedding()
        self.worker = Worker(
            self.runner, observer=self.observer, max_batch_size=16, clock=self.clock, shedding=shedding
        )
        self._ids = count()

    def submit(self, image: np.ndarray, rule: Policy | None = None, timeout_s: float | None = None) -> Task:
        rule = rule or policy()
        now = self.clock()
        if timeout_s is not None:
            rule = replace(rule, deadline=now + timeout_s)
        task = Task(task_id=next(self._ids), pixels=image, policy=rule, submitted_at=now)
        self.worker.ledger.open(task)
        self.worker.inbox.put(task)
        return task

    def cancel(self, task: Task) -> None:
        task.cancelled = True
        self.worker.inbox.put(Signal.CANCELLED)

    def serve(self) -> None:
        self.worker.inbox.put(Signal.DRAIN)
        self.worker.serve()

    def learn(self, image: np.ndarray) -> None:
        """Let the worker see how long the stages of an image's walk take, and forget that it ran."""
        self.submit(image)
        self.serve()
        self.runner.batches.clear()
        self.observer.counts.clear()
