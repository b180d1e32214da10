import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from engine_fakes import FakeClock, FakeRunner, RecordingObserver, hold, passing, pixels, policy
from waiting import eventually

from service.engine.engine import Engine
from service.engine.load import RISE_AFTER_S
from service.engine.operating import Change, OperatingPoint
from service.engine.policy import ExitReason, Policy
from service.engine.task import Task
from service.errors import (
    ClientLeftError,
    DeadlineExceededError,
)

MakeEngine = Callable[..., Engine]


def test_submit_from_many_threads_everyone_gets_their_own_answer(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start(max_inflight=256)
    hold(runner, engine)
    admitted = threading.Barrier(257)

    def classify(tag: int) -> tuple[int, int]:
        admitted.wait(10)
        answer = engine.submit(pixels(tag % 4, tag=tag), policy()).future.result(10)
        return answer.prediction.indices[0], answer.prediction.stage

    with ThreadPoolExecutor(256) as clients:
        outcomes = clients.map(classify, range(256))
        admitted.wait(10)
        eventually(lambda: engine.queue_depths()[0] == 256)
        runner.gate.set()
        assert list(outcomes) == [(tag, tag % 4) for tag in range(256)]
    ran = Counter(stage for stage, ids in runner.batches for _ in ids)
    assert ran == {0: 257, 1: 192, 2: 128, 3: 64}
    assert observer.num_ended == 257
    assert (engine.queue_depths(), runner.kept) == ((0, 0, 0, 0), {})
    assert (engine.stage_macs, engine.baseline_macs) == (runner.stage_macs, runner.baseline_macs)


def test_submit_configuration_changes_on_the_way_the_admitted_one_holds(start: MakeEngine, runner: FakeRunner) -> None:
    point = OperatingPoint(version=1, thresholds=(0.95,) * 3, updated_at=datetime.now(UTC))

    def submit(engine: Engine) -> Task:
        rule = Policy(thresholds=point.thresholds, config_version=point.version, max_stage=3)
        return engine.submit(pixels(0), rule)

    engine = start()
    hold(runner, engine)
    before = submit(engine)
    point = point.changed(Change(thresholds=(0.5,) * 3, changed_by="alice"))
    after = submit(engine)
    runner.gate.set()
    answers = [task.future.result(5) for task in (before, after)]
    assert [(answer.config_version, answer.prediction.stage) for answer in answers] == [(1, 3), (2, 0)]


def test_cancel_ends_a_task_in_a_stage_and_leaves_one_that_has_ended(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    task = hold(runner, engine, exit_stage=3)
    engine.cancel(task)
    runner.gate.set()
    with pytest.raises(ClientLeftError):
        task.future.result(5)
    assert runner.kept == {}
    task = engine.submit(pixels(0), policy())
    task.future.result(5)
    engine.cancel(task)
    assert task.cancelled is False
    assert observer.counts == {"cancelled:compute": 1, "exited:confident": 1}


@pytest.mark.parametrize("running", [True, False])
async def test_future_client_stops_waiting_counts_as_cancelled_and_the_worker_lives_on(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver, running: bool
) -> None:
    engine = start()
    task = hold(runner, engine, exit_stage=3)
    if not running:
        task = engine.submit(pixels(3), policy())
    waiting = asyncio.wrap_future(task.future)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)  # asyncio passes the cancellation on in its next round
    assert task.future.cancelled()
    runner.gate.set()
    answer = await asyncio.wrap_future(engine.submit(pixels(1), policy()).future)
    assert answer.prediction.stage == 1
    eventually(lambda: observer.num_ended == (2 if running else 3))
    assert observer.counts[f"cancelled:{'compute' if running else 'queue'}"] == 1
    assert [stage for stage, ids in runner.batches if task.task_id in ids] == ([0] if running else [])
    assert runner.kept == {}


def test_load_level_follows_the_share_of_room_taken_and_thresholds_give_way(
    start: MakeEngine, runner: FakeRunner
) -> None:
    clock = FakeClock()
    assert start().load_level == 0
    engine = start(max_inflight=4, clock=clock, ladder=lambda version, thresholds: [(0.15,) * 3])
    assert engine.load_level == 0
    tasks = [hold(runner, engine, exit_stage=3), *(engine.submit(pixels(3), policy()) for _ in range(3))]
    runner.fault = passing(clock, RISE_AFTER_S)
    runner.gate.set()

    assert ExitReason.LOAD in {task.future.result(5).reason for task in tasks}
    assert engine.load_level >= 1


def test_warm_up_largest_batch_of_a_stage_is_the_largest_it_runs(start: MakeEngine, runner: FakeRunner) -> None:
    runner.warm_up = lambda: [(0, 1, 0.0), (0, 2, 0.0)]  # type: ignore[method-assign,assignment,return-value]
    engine = start()
    runner.gate.clear()
    tasks = [engine.submit(pixels(0), policy()) for _ in range(8)]
    runner.gate.set()
    for task in tasks:
        task.future.result(5)
    assert max(len(ids) for stage, ids in runner.batches if stage == 0) == 2


def test_warm_up_times_are_known_to_the_scheduler(start: MakeEngine, runner: FakeRunner) -> None:
    runner.warm_up = lambda: [(0, 1, 60.0)]  # type: ignore[method-assign,assignment,return-value]
    task = start().submit(pixels(0), policy(deadline=time.monotonic() + 30))
    with pytest.raises(DeadlineExceededError):
        task.future.result(5)
    assert runner.batches == []
