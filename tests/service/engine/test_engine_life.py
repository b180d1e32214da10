import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_fakes import FakeRunner, RecordingObserver, hold, pixels, policy
from waiting import eventually

from service.engine.engine import Engine, EngineState
from service.engine.task import Task
from service.errors import DeviceLostError, InferenceError, NotReadyError, ServiceError

MakeEngine = Callable[..., Engine]


@pytest.mark.parametrize(
    ("cause", "kind", "error"),
    [
        (DeviceLostError("gone"), "device_lost", DeviceLostError),
        (KeyboardInterrupt("worker bug"), "worker", DeviceLostError),
        (RuntimeError("every image"), "worker", InferenceError),
    ],
)
def test_run_fatal_error_ends_everything_and_refuses_more(
    start: MakeEngine,
    runner: FakeRunner,
    observer: RecordingObserver,
    cause: BaseException,
    kind: str,
    error: type[ServiceError],
) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == 1:
            raise cause

    engine = start()
    deep = hold(runner, engine, exit_stage=3)
    runner.fault = fault
    tasks = [engine.submit(pixels(3, tag), policy()) for tag in range(40)]
    runner.gate.set()
    for task in (deep, *tasks):
        with pytest.raises(error):
            task.future.result(5)
    eventually(lambda: observer.counts[f"device:{kind}"] == 1)
    assert engine.state is EngineState.DEAD
    assert sum(observer.counts[f"failed:{stage}"] for stage in range(4)) == 41
    with pytest.raises(NotReadyError, match="the engine is dead") as refusal:
        engine.submit(pixels(0), policy())
    assert refusal.value.__cause__ is cause or error is InferenceError
    assert observer.counts["rejected:not_ready"] == 1
    engine.stop(drain=True, timeout_s=5)
    assert engine.state is EngineState.DEAD


def test_observer_raises_every_future_ends_and_the_engine_is_dead(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no metrics today")

    engine = start()
    held = hold(runner, engine)
    observer.image_exited = broken  # type: ignore[method-assign]
    tasks = [engine.submit(pixels(0), policy()) for _ in range(20)]
    runner.gate.set()
    assert held.future.result(5).prediction.stage == 0
    for task in tasks:
        with pytest.raises(DeviceLostError):
            task.future.result(5)
    assert engine.state is EngineState.DEAD


def test_submit_racing_with_death_always_ends(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    tasks: list[Task] = []
    refused = threading.Barrier(4)

    def submit() -> None:
        while True:
            try:
                tasks.append(engine.submit(pixels(3), policy()))
            except NotReadyError:
                refused.wait(10)
                return

    def fault(stage: int, batch: Sequence[Task]) -> None:
        if len(tasks) > 200:
            raise DeviceLostError("gone")

    runner.fault = fault
    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(submit)
    for task in tasks:
        assert isinstance(task.future.exception(5), DeviceLostError | None)
    assert len(tasks) > 200
    # Of each client one image more was refused.
    eventually(lambda: observer.num_ended == len(tasks) + 4)


def test_warm_up_fails_whoever_waits_is_told_why(
    make_engine: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel")

    runner.warm_up = broken  # type: ignore[method-assign]
    engine = make_engine()
    engine.start()
    with pytest.raises(NotReadyError, match="the engine is dead") as refusal:
        engine.wait_ready(5)
    assert str(refusal.value.__cause__) == "no such kernel"
    eventually(lambda: observer.counts == {"device:warm_up": 1})


def test_wait_ready_warm_up_takes_too_long_raises_and_admits_nobody(
    make_engine: MakeEngine, runner: FakeRunner
) -> None:
    go_on = threading.Event()
    runner.warm_up = lambda: go_on.wait(5) and None  # type: ignore[method-assign]
    engine = make_engine()
    engine.start()
    with pytest.raises(NotReadyError, match="the engine is starting"):
        engine.wait_ready(0.01)
    with pytest.raises(NotReadyError, match="the engine is starting"):
        engine.submit(pixels(0), policy())
    go_on.set()
    engine.wait_ready(5)


def test_stop_before_start_leaves_nothing_to_start(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.stop(drain=True, timeout_s=5)
    assert engine.state is EngineState.STOPPED
    with pytest.raises(NotReadyError, match="the engine is stopped"):
        engine.start()


def _stopping(engine: Engine, *, drain: bool) -> threading.Thread:
    thread = threading.Thread(target=engine.stop, kwargs={"drain": drain, "timeout_s": 5})
    thread.start()
    eventually(lambda: engine.state is EngineState.DRAINING)
    return thread


def test_stop_draining_answers_what_was_admitted(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    hold(runner, engine)
    tasks = [engine.submit(pixels(3, tag=tag), policy()) for tag in range(20)]
    stopping = _stopping(engine, drain=True)
    tasks.append(engine.submit(pixels(3, tag=20), policy()))  # admitted before, still being decoded then
    runner.gate.set()
    stopping.join(5)
    assert [task.future.result(0).prediction.indices[0] for task in tasks] == list(range(21))
    assert engine.state is EngineState.STOPPED
    assert observer.counts == {"exited:confident": 1, "exited:final": 21}


def test_stop_while_warming_up_waits_for_nothing(make_engine: MakeEngine, runner: FakeRunner) -> None:
    go_on = threading.Event()
    runner.warm_up = lambda: go_on.wait(60) and None  # type: ignore[method-assign]
    engine = make_engine()
    engine.start()
    engine.stop(drain=True, timeout_s=3600)
    assert engine.state is EngineState.STOPPED
    assert engine.running

    go_on.set()
    eventually(lambda: not engine.running)
    assert engine.state is EngineState.STOPPED


def test_stop_without_draining_ends_what_waits(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    held = hold(runner, engine)
    tasks = [engine.submit(pixels(0), policy()) for _ in range(20)]
    stopping = _stopping(engine, drain=False)
    runner.gate.set()
    stopping.join(5)
    assert held.future.result(0).prediction.stage == 0
    for task in tasks:
        with pytest.raises(NotReadyError, match="stopped"):
            task.future.result(0)
    assert observer.counts == {"exited:confident": 1, "rejected:not_ready": 20}


def test_stop_worker_hangs_every_future_ends_once_all_the_same(
    start: MakeEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    held = hold(runner, engine)
    waiting = engine.submit(pixels(0), policy())
    eventually(lambda: engine.busy_s > 0)
    engine.stop(drain=True, timeout_s=0.05)
    for task in (held, waiting):
        with pytest.raises(NotReadyError):
            task.future.result(0)
    assert engine.state is EngineState.STOPPED

    runner.gate.set()
    eventually(lambda: engine.busy_s == 0)
    assert len(runner.batches) == 1, "the worker went on after the end"
    assert observer.counts == {"rejected:not_ready": 2}
