import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from engine_fakes import FakeClock, hold, passing, pixels, policy
from waiting import eventually

from service.engine.engine import EngineState
from service.engine.load import RISE_AFTER_S
from service.engine.policy import ExitReason
from service.errors import ClientLeftError, DeadlineExceededError, DeviceLostError, InferenceError, NotReadyError


def _errors(tasks):
    return [type(task.future.exception(5)) for task in tasks]


def test_submit_from_many_threads_everyone_gets_their_own_answer(start, runner, observer):
    engine = start(max_inflight=64)
    hold(runner, engine)

    def classify(tag):
        answer = engine.submit(pixels(tag % 4, tag=tag), policy(config_version=tag)).future.result(10)
        return answer.prediction.indices[0], answer.prediction.stage, answer.config_version

    with ThreadPoolExecutor(64) as clients:
        outcomes = clients.map(classify, range(64))
        eventually(lambda: engine.queue_depths()[0] == 64)
        runner.gate.set()
        assert list(outcomes) == [(tag, tag % 4, tag) for tag in range(64)]
    ran = Counter(stage for stage, ids in runner.batches for _ in ids)
    assert ran == {0: 65, 1: 48, 2: 32, 3: 16}
    assert observer.num_ended == 65
    assert (engine.queue_depths(), runner.kept) == ((0, 0, 0, 0), {})
    assert (engine.stage_macs, engine.baseline_macs) == (runner.stage_macs, runner.baseline_macs)


def test_cancel_ends_a_task_in_a_stage_and_leaves_one_that_has_ended(start, runner, observer):
    engine = start()
    (ended := engine.submit(pixels(0), policy())).future.result(5)
    task = hold(runner, engine, exit_stage=3)
    for each in (task, ended):
        engine.cancel(each)
    runner.gate.set()
    assert _errors([task]) == [ClientLeftError]
    assert ended.cancelled is False
    assert observer.counts == {"cancelled:compute": 1, "exited:confident": 1}


@pytest.mark.parametrize("running", [True, False])
async def test_future_client_stops_waiting_counts_as_cancelled_and_the_worker_lives_on(
    start, runner, observer, running
):
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
    assert (await asyncio.wrap_future(engine.submit(pixels(1), policy()).future)).prediction.stage == 1
    eventually(lambda: observer.num_ended == (2 if running else 3))
    assert observer.counts[f"cancelled:{'compute' if running else 'queue'}"] == 1
    assert [stage for stage, ids in runner.batches if task.task_id in ids] == ([0] if running else [])
    assert runner.kept == {}


def test_load_level_follows_the_share_of_room_taken_and_thresholds_give_way(start, runner):
    clock = FakeClock()
    engine = start(max_inflight=4, clock=clock, ladder=lambda version, thresholds: [(0.15,) * 3])
    assert engine.load_level == 0
    # Half of the room is taken when the steps after this one begin.
    tasks = [hold(runner, engine, exit_stage=3), engine.submit(pixels(3), policy())]
    runner.fault = passing(clock, RISE_AFTER_S)
    runner.gate.set()
    assert ExitReason.LOAD in {task.future.result(5).reason for task in tasks}
    assert engine.load_level >= 1


def test_warm_up_largest_batch_of_a_stage_is_the_largest_it_runs_and_its_times_are_known(start, runner):
    runner.warm_up = lambda: [(0, 1, 60.0), (0, 2, 60.0)]
    engine = start()
    held = hold(runner, engine)
    tasks = [engine.submit(pixels(0), policy()) for _ in range(8)]
    late = engine.submit(pixels(0), policy(deadline=time.monotonic() + 30))
    runner.gate.set()
    assert _errors([held, *tasks, late]) == [type(None)] * 9 + [DeadlineExceededError]
    assert [len(ids) for _, ids in runner.batches] == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("cause", "kind", "error"),
    [
        (DeviceLostError("gone"), "device_lost", DeviceLostError),
        (KeyboardInterrupt("worker bug"), "worker", DeviceLostError),
        (RuntimeError("every image"), "worker", InferenceError),
    ],
)
def test_run_fatal_error_ends_everything_and_refuses_more(start, runner, observer, cause, kind, error):
    def fault(stage, tasks):
        if stage == 1:
            raise cause

    engine = start()
    deep = hold(runner, engine, exit_stage=3)
    runner.fault = fault
    tasks = [deep, *(engine.submit(pixels(3, tag), policy()) for tag in range(40))]
    runner.gate.set()
    assert all(issubclass(each, error) for each in _errors(tasks))
    eventually(lambda: observer.counts[f"device:{kind}"] == 1)
    assert sum(observer.counts[f"failed:{stage}"] for stage in range(4)) == 41
    with pytest.raises(NotReadyError, match="the engine is dead") as refusal:
        engine.submit(pixels(0), policy())
    assert refusal.value.__cause__ is cause or error is InferenceError
    assert observer.counts["rejected:not_ready"] == 1
    engine.stop(drain=True, timeout_s=5)
    assert engine.state is EngineState.DEAD


def test_observer_raises_every_future_ends_and_the_engine_is_dead(start, runner, observer):
    def broken(*args):
        raise RuntimeError("no metrics today")

    engine = start()
    tasks = [hold(runner, engine)]
    observer.image_exited = observer.image_failed = broken
    tasks += [engine.submit(pixels(0), policy()) for _ in range(20)]
    runner.gate.set()
    assert _errors(tasks) == [type(None)] + [DeviceLostError] * 20
    assert engine.state is EngineState.DEAD


def test_submit_racing_with_death_always_ends(start, runner, observer):
    engine, tasks = start(), []

    def submit():
        with suppress(NotReadyError):
            while True:
                tasks.append(engine.submit(pixels(3), policy()))

    def fault(stage, batch):
        if len(tasks) > 200:
            raise DeviceLostError("gone")

    runner.fault = fault
    with ThreadPoolExecutor(4) as clients:
        for client in [clients.submit(submit) for _ in range(4)]:
            client.result(30)
    assert set(_errors(tasks)) <= {DeviceLostError, type(None)}
    assert len(tasks) > 200
    # Of each client one image more was refused.
    eventually(lambda: observer.num_ended == len(tasks) + 4)


def test_warm_up_fails_whoever_waits_is_told_why(make_engine, runner, observer):
    cause = RuntimeError("no such kernel")

    def broken():
        raise cause

    runner.warm_up = broken
    engine = make_engine()
    engine.start()
    with pytest.raises(NotReadyError, match="the engine is dead") as refusal:
        engine.wait_ready(5)
    assert refusal.value.__cause__ is cause
    eventually(lambda: observer.counts == {"device:warm_up": 1})


def test_warm_up_takes_long_nobody_is_admitted_and_stop_waits_for_nothing(make_engine, runner):
    go_on = threading.Event()
    runner.warm_up = lambda: go_on.wait(10) and None
    engine = make_engine()
    engine.start()
    with pytest.raises(NotReadyError, match="the engine is starting"):
        engine.wait_ready(0.01)
    with pytest.raises(NotReadyError, match="the engine is starting"):
        engine.submit(pixels(0), policy())
    engine.stop(drain=True, timeout_s=3600)
    assert (engine.state, engine.running) == (EngineState.STOPPED, True)
    go_on.set()
    eventually(lambda: not engine.running)
    assert engine.state is EngineState.STOPPED


def test_stop_before_start_leaves_nothing_to_start(make_engine):
    engine = make_engine()
    engine.stop(drain=True, timeout_s=5)
    assert engine.state is EngineState.STOPPED
    with pytest.raises(NotReadyError, match="the engine is stopped"):
        engine.start()


@pytest.mark.parametrize("drain", [True, False])
def test_stop_finishes_the_step_and_with_draining_everything_admitted(start, runner, observer, drain):
    engine = start()
    held = hold(runner, engine)
    tasks = [engine.submit(pixels(3), policy()) for _ in range(20)]
    stopping = threading.Thread(target=engine.stop, kwargs={"drain": drain, "timeout_s": 5})
    stopping.start()
    eventually(lambda: engine.state is EngineState.DRAINING)
    tasks.append(engine.submit(pixels(3), policy()))  # admitted before, still being decoded then
    runner.gate.set()
    stopping.join(5)
    assert held.future.result(0).prediction.stage == 0
    assert _errors(tasks) == [type(None) if drain else NotReadyError] * 21
    assert engine.state is EngineState.STOPPED
    assert observer.counts == {"exited:confident": 1, "exited:final" if drain else "rejected:not_ready": 21}


def test_stop_worker_hangs_every_future_ends_once_all_the_same(start, runner, observer):
    engine = start()
    tasks = [hold(runner, engine), engine.submit(pixels(0), policy())]
    eventually(lambda: engine.busy_s > 0)
    engine.stop(drain=True, timeout_s=0.05)
    assert _errors(tasks) == [NotReadyError] * 2
    assert engine.state is EngineState.STOPPED
    runner.gate.set()
    eventually(lambda: engine.busy_s == 0)
    assert len(runner.batches) == 1, "the worker went on after the end"
    assert observer.counts == {"rejected:not_ready": 2}
