import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from engine_fakes import STAGE_MACS, FakeRunner, RecordingObserver, pixels, policy

from service.engine.engine import Engine, EngineState
from service.engine.policy import ExitReason
from service.engine.task import Task
from service.errors import (
    CancelledError,
    DeadlineExceededError,
    DeviceLostError,
    InferenceError,
    InvalidParameterError,
    NotReadyError,
    OverloadedError,
    TooLargeError,
)

StartEngine = Callable[..., Engine]


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def start(runner: FakeRunner, observer: RecordingObserver) -> Iterator[StartEngine]:
    engines: list[Engine] = []

    def start_engine(**changes: object) -> Engine:
        options = {"observer": observer, "max_inflight": 1000, "max_batch_size": 16, **changes}
        engine = Engine(runner, **options)
        engines.append(engine)
        engine.start()
        engine.wait_ready(5)
        return engine

    yield start_engine
    runner.gate.set()
    for engine in engines:
        engine.stop(drain=False, timeout_s=5)


def _hold(runner: FakeRunner, engine: Engine) -> Task:
    """Occupy the worker with one image until `runner.gate` is set."""
    runner.gate.clear()
    runner.entered.clear()
    task = engine.submit(pixels(0), policy())
    assert runner.entered.wait(5)
    return task


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.001)


@pytest.mark.parametrize("exit_stage", range(4))
def test_submit_image_leaves_at_its_stage_with_the_macs_of_its_walk(start: StartEngine, exit_stage: int) -> None:
    answer = start().submit(pixels(exit_stage, tag=7), policy(config_version=3)).future.result(5)
    assert answer.prediction.stage == exit_stage
    assert answer.prediction.indices == (7,)
    assert answer.reason == (ExitReason.FINAL if exit_stage == 3 else ExitReason.CONFIDENT)
    assert answer.threshold == (None if exit_stage == 3 else 0.5)
    assert answer.macs == sum(STAGE_MACS[: exit_stage + 1])
    assert answer.config_version == 3
    assert answer.trace == ()
    assert answer.queue_s >= 0
    assert answer.compute_s >= 0


def test_submit_many_at_once_batches_hold_exactly_the_images_that_reached_the_stage(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    held = _hold(runner, engine)
    tasks = [engine.submit(pixels(index % 4, tag=index), policy()) for index in range(256)]
    runner.gate.set()
    answers = [task.future.result(10) for task in tasks]
    held.future.result(5)

    assert [answer.prediction.indices[0] for answer in answers] == list(range(256))
    reached = {task.task_id: answer.prediction.stage for task, answer in zip(tasks, answers, strict=True)}
    assert list(reached.values()) == [index % 4 for index in range(256)]
    reached[held.task_id] = 0
    ran: list[set[int]] = [set() for _ in range(4)]
    for stage, ids in runner.batches:
        assert len(ids) <= 16
        assert not ran[stage] & set(ids), "a stage ran twice for an image"
        ran[stage] |= set(ids)
    for stage in range(4):
        assert ran[stage] == {task_id for task_id, last in reached.items() if last >= stage}
    sizes = [size for stage, size in observer.batch_sizes if stage == 0]
    assert sum(sizes) / len(sizes) >= 8
    assert observer.macs == sum(answer.macs for answer in answers) + STAGE_MACS[0]
    assert runner.kept == {}
    assert engine.queue_depths() == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"max_stage": 1}, 1, ExitReason.MAX_STAGE),
        ({"max_macs": 3}, 1, ExitReason.MAX_MACS),
        ({"max_macs": 7}, 2, ExitReason.CONFIDENT),
        ({"min_stage": 3}, 3, ExitReason.FINAL),
        ({"thresholds": (0.0, 0.5, 0.5)}, 0, ExitReason.CONFIDENT),
        ({"thresholds": (2.0, 2.0, 2.0)}, 3, ExitReason.FINAL),
    ],
)
def test_submit_policy_limits_decide_the_exit(
    start: StartEngine, changes: dict[str, object], stage: int, reason: ExitReason
) -> None:
    answer = start().submit(pixels(2), policy(**changes)).future.result(5)
    assert (answer.prediction.stage, answer.reason) == (stage, reason)


def test_submit_trace_holds_every_stage(start: StartEngine) -> None:
    answer = start().submit(pixels(2), policy(trace=True)).future.result(5)
    assert [(step.stage, step.confidence) for step in answer.trace] == [(0, 0.2), (1, 0.2), (2, 0.9)]


def test_submit_impossible_policy_raises_before_anything_runs(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    with pytest.raises(InvalidParameterError, match="expected 3 thresholds, got 1"):
        engine.submit(pixels(0), policy(thresholds=(0.5,)))
    with pytest.raises(InvalidParameterError, match="max_stage must be from 0 to 3, got 4"):
        engine.submit(pixels(0), policy(max_stage=4))
    with pytest.raises(InvalidParameterError, match="max_macs must be at least 1"):
        engine.submit(pixels(0), policy(max_macs=0))
    assert runner.batches == []


@pytest.mark.parametrize("bad_stage", range(4))
def test_run_raises_for_one_image_neighbours_are_answered(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver, bad_stage: int
) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == bad_stage and any(task.pixels[1, 0, 0] == 5 for task in tasks):
            raise RuntimeError("boom")

    engine = start()
    held = _hold(runner, engine)
    runner.fault = fault
    tasks = [engine.submit(pixels(3, tag=tag), policy()) for tag in range(11)]
    runner.gate.set()
    for tag, task in enumerate(tasks):
        if tag == 5:
            with pytest.raises(InferenceError, match=f"stage {bad_stage} could not be computed"):
                task.future.result(5)
        else:
            assert task.future.result(5).prediction.indices == (tag,)
    held.future.result(5)
    assert observer.counts[f"failed:{bad_stage}"] == 1
    assert runner.kept == {}
    assert engine.state is EngineState.READY


def test_run_not_finite_confidence_fails_that_image_only(start: StartEngine, runner: FakeRunner) -> None:
    runner.confidence = lambda task, stage: float("nan") if task.pixels[1, 0, 0] == 1 else 0.9
    engine = start()
    good, bad = (engine.submit(pixels(0, tag=tag), policy()) for tag in (0, 1))
    assert good.future.result(5).prediction.stage == 0
    with pytest.raises(InferenceError, match="not finite"):
        bad.future.result(5)


def test_cancel_while_queued_drops_before_the_stage(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    held = _hold(runner, engine)
    task = engine.submit(pixels(0), policy())
    engine.cancel(task)
    runner.gate.set()
    with pytest.raises(CancelledError):
        task.future.result(5)
    held.future.result(5)
    assert all(task.task_id not in ids for _, ids in runner.batches)
    assert observer.counts["cancelled:queue"] == 1


def test_cancel_while_running_stops_before_the_next_stage(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    runner.gate.clear()
    runner.entered.clear()
    task = engine.submit(pixels(3), policy())
    assert runner.entered.wait(5)
    engine.cancel(task)
    runner.gate.set()
    with pytest.raises(CancelledError):
        task.future.result(5)
    assert [stage for stage, _ in runner.batches] == [0]
    assert runner.kept == {}
    assert observer.counts["cancelled:compute"] == 1


def test_cancel_by_the_future_frees_everything(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    engine = start()
    held = _hold(runner, engine)
    task = engine.submit(pixels(3), policy())
    assert task.future.cancel()
    runner.gate.set()
    held.future.result(5)
    assert engine.submit(pixels(1), policy()).future.result(5).prediction.stage == 1
    assert sum(observer.counts[f"cancelled:{where}"] for where in ("queue", "compute")) == 1
    assert runner.kept == {}


def test_deadline_before_any_stage_raises(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    held = _hold(runner, engine)
    task = engine.submit(pixels(0), policy(timeout_s=0.0))
    runner.gate.set()
    with pytest.raises(DeadlineExceededError, match=r"within 0\.0 s"):
        task.future.result(5)
    held.future.result(5)


def test_deadline_after_a_stage_gives_the_best_answer_so_far(start: StartEngine, runner: FakeRunner) -> None:
    now = [0.0]
    engine = start(clock=lambda: now[0])

    def fault(stage: int, tasks: Sequence[Task]) -> None:
        now[0] += 1.0

    runner.fault = fault
    answer = engine.submit(pixels(3), policy(timeout_s=1.5)).future.result(5)
    assert (answer.prediction.stage, answer.reason) == (1, ExitReason.DEADLINE)
    assert answer.macs == sum(STAGE_MACS[:2])


def test_admit_is_bounded_counts_images_and_gives_back(start: StartEngine, observer: RecordingObserver) -> None:
    engine = start(max_inflight=4)
    with engine.admit(3) as permits:
        assert engine.inflight == 3
        with pytest.raises(OverloadedError, match="3 of 4 images are in flight") as refusal:
            engine.admit(2)
        assert refusal.value.retry_after_s > 0
        permits.release()
        assert engine.inflight == 2
    assert engine.inflight == 0
    with pytest.raises(TooLargeError, match="5 images in one request; the limit is 4"):
        engine.admit(5)
    assert observer.counts == Counter({"rejected:full": 2, "rejected:too_large": 5})


@pytest.mark.parametrize("cause", [DeviceLostError("gone"), KeyboardInterrupt("worker bug")])
def test_run_fatal_error_ends_everything_and_refuses_more(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver, cause: BaseException
) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        raise cause

    engine = start()
    held = _hold(runner, engine)
    runner.fault = fault
    tasks = [engine.submit(pixels(3), policy()) for _ in range(40)]
    runner.gate.set()
    for task in (held, *tasks):
        with pytest.raises(DeviceLostError):
            task.future.result(5)
    _until(lambda: engine.state is EngineState.DEAD)
    with pytest.raises(NotReadyError, match="dead"):
        engine.admit(1)
    with pytest.raises(NotReadyError, match="dead"):
        engine.submit(pixels(0), policy())
    _until(lambda: sum(observer.counts[kind] for kind in ("device:device_lost", "device:worker")) == 1)
    assert observer.counts["failed:0"] == 41


def test_warm_up_failure_is_told_to_whoever_waits(runner: FakeRunner, observer: RecordingObserver) -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel")

    runner.warm_up = broken  # type: ignore[method-assign]
    engine = Engine(runner, observer=observer, max_inflight=1, max_batch_size=1)
    engine.start()
    with pytest.raises(NotReadyError, match="dead") as raised:
        engine.wait_ready(5)
    assert str(raised.value.__cause__) == "no such kernel"


def test_stop_draining_answers_what_was_submitted(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    held = _hold(runner, engine)
    tasks = [engine.submit(pixels(3, tag=tag), policy()) for tag in range(20)]
    stopping = threading.Thread(target=engine.stop, kwargs={"drain": True, "timeout_s": 5})
    stopping.start()
    _until(lambda: engine.state is EngineState.DRAINING)
    with pytest.raises(NotReadyError):
        engine.admit(1)
    runner.gate.set()
    stopping.join(5)
    assert [task.future.result(0).prediction.indices[0] for task in tasks] == list(range(20))
    assert held.future.done()
    assert engine.state is EngineState.STOPPED


def test_stop_without_draining_ends_what_waits(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    held = _hold(runner, engine)
    tasks = [engine.submit(pixels(0), policy()) for _ in range(20)]
    stopping = threading.Thread(target=engine.stop, kwargs={"drain": False, "timeout_s": 5})
    stopping.start()
    _until(lambda: engine.state is EngineState.DRAINING)
    runner.gate.set()
    stopping.join(5)
    assert held.future.done()
    for task in tasks:
        with pytest.raises(NotReadyError, match="stopped"):
            task.future.result(0)


def test_stop_hanging_device_ends_every_future_anyway(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    held = _hold(runner, engine)
    waiting = engine.submit(pixels(0), policy())
    engine.stop(drain=True, timeout_s=0.05)
    for task in (held, waiting):
        with pytest.raises(NotReadyError):
            task.future.result(0)


def test_submissions_racing_with_death_all_end(start: StartEngine, runner: FakeRunner) -> None:
    engine = start()
    tasks: list[Task] = []
    go = threading.Event()

    def submit() -> None:
        go.wait(5)
        for _ in range(300):
            try:
                tasks.append(engine.submit(pixels(3), policy()))
            except NotReadyError:
                return

    def fault(stage: int, batch: Sequence[Task]) -> None:
        if len(tasks) > 200:
            raise DeviceLostError("gone")

    runner.fault = fault
    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    for task in tasks:
        assert task.future.exception(5) is None or isinstance(task.future.exception(), DeviceLostError)
    assert engine.state is EngineState.DEAD


def test_counts_every_submitted_image_ends_as_exactly_one_thing(
    start: StartEngine, runner: FakeRunner, observer: RecordingObserver
) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if any(task.pixels[1, 0, 0] % 50 == 7 for task in tasks):
            raise RuntimeError("boom")

    engine = start()
    held = _hold(runner, engine)
    runner.fault = fault
    tasks = [
        engine.submit(pixels(tag % 4, tag=tag), policy(timeout_s=0.0 if tag % 31 == 3 else None)) for tag in range(200)
    ]
    for task in tasks[::17]:
        engine.cancel(task)
    runner.gate.set()
    for task in (held, *tasks):
        task.future.exception(5)
    assert sum(observer.counts.values()) == 201
    assert len({kind.split(":")[0] for kind in observer.counts}) == 4
    assert engine.queue_depths() == (0, 0, 0, 0)
    assert runner.kept == {}
