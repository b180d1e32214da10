"""Time, memory and load: what the worker does when there is too little of one or too much of the other."""

from collections.abc import Callable, Sequence

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, RecordingObserver, pixels, policy

from service.engine.load import RISE_AFTER_S, Shedding
from service.engine.policy import ExitReason
from service.engine.stage_health import StageBrokenError
from service.engine.task import Task
from service.errors import DeadlineExceededError, InferenceError


def _lasting(bench: Bench, seconds: float) -> Callable[[int, Sequence[Task]], None]:
    def pass_time(stage: int, tasks: Sequence[Task]) -> None:
        bench.clock.now += seconds

    return pass_time


def _learn(bench: Bench) -> None:
    """Let every stage run once, at a second each."""
    bench.runner.fault = _lasting(bench, 1.0)
    bench.submit(pixels(3))
    bench.serve()
    bench.runner.batches.clear()
    bench.observer.counts.clear()


@pytest.mark.parametrize(("timeout_s", "stage"), [(1.0, 0), (1.9, 0), (2.0, 1), (3.9, 2), (4.0, 3)])
def test_deadline_stage_that_cannot_finish_is_not_started(bench: Bench, timeout_s: float, stage: int) -> None:
    _learn(bench)
    task = bench.submit(pixels(3), policy(timeout_s=timeout_s))
    bench.serve()
    answer = task.future.result(0)
    assert answer.prediction.stage == stage
    assert answer.reason == (ExitReason.FINAL if stage == 3 else ExitReason.DEADLINE)
    assert answer.macs == sum(STAGE_MACS[: stage + 1])
    assert bench.clock.now - task.submitted_at == stage + 1, "answered late"
    assert [ran for ran, _ in bench.runner.batches] == list(range(stage + 1))
    assert bench.runner.kept == {}


def test_deadline_first_stage_cannot_finish_raises_at_once(bench: Bench) -> None:
    _learn(bench)
    now = bench.clock.now
    task = bench.submit(pixels(0), policy(timeout_s=0.9))
    bench.serve()
    with pytest.raises(DeadlineExceededError, match=r"within 0\.9 s"):
        task.future.result(0)
    assert (bench.clock.now, bench.runner.batches) == (now, [])
    assert bench.observer.counts == {"rejected:deadline": 1}


def test_deadline_time_waited_counts_as_queued(bench: Bench) -> None:
    _learn(bench)
    task, other = bench.submit(pixels(3), policy(timeout_s=1.5)), bench.submit(pixels(3))
    bench.clock.now += 0.25
    bench.serve()
    assert task.future.result(0).reason is ExitReason.DEADLINE
    assert task.future.result(0).queue_s == 0.25
    assert other.future.result(0).reason is ExitReason.FINAL


def test_out_of_memory_later_batches_of_that_stage_are_smaller(bench: Bench) -> None:
    sizes = []

    def small_memory(stage: int, tasks: Sequence[Task]) -> None:
        sizes.append((stage, len(tasks)))
        if stage == 1 and len(tasks) > 4:
            raise MemoryError

    bench.runner.fault = small_memory
    tasks = [bench.submit(pixels(1, tag)) for tag in range(32)]
    bench.serve()
    assert [task.future.result(0).prediction.stage for task in tasks] == [1] * 32
    assert [size for stage, size in sizes if stage == 0] == [16, 16]
    assert [size for stage, size in sizes if stage == 1] == [16, 8, 4, 4, 8, 4, 4, 4, 4, 4, 4]


def test_serve_other_errors_leave_the_batch_size_alone(bench: Bench) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if any(task.task_id == 0 for task in tasks):
            raise RuntimeError("boom")

    bench.runner.fault = fault
    for tag in range(32):
        bench.submit(pixels(0, tag))
    bench.serve()
    assert bench.observer.batch_sizes[-1] == (0, 16)


@pytest.mark.parametrize("place", [0, 1, 4])
def test_serve_any_probability_not_finite_fails_that_image(bench: Bench, place: int) -> None:
    run = bench.runner.run

    def run_badly(stage: int, tasks: Sequence[Task]) -> list[object]:
        predictions = run(stage, tasks)
        for task, prediction in zip(tasks, predictions, strict=True):
            probs = [0.9, 0.1, 0.0, 0.0, 0.0]
            if task.task_id == 1:
                probs[place] = float("nan")
            object.__setattr__(prediction, "probs", tuple(probs))
        return list(predictions)

    bench.runner.run = run_badly  # type: ignore[method-assign,assignment]
    good, bad = bench.submit(pixels(0)), bench.submit(pixels(0))
    bench.serve()
    assert good.future.result(0).reason is ExitReason.CONFIDENT
    with pytest.raises(InferenceError, match="not finite"):
        bad.future.result(0)


def _raising(stage: int, tasks: Sequence[Task]) -> None:
    if stage == 2:
        raise RuntimeError("boom")


@pytest.mark.parametrize("kind", ["raises", "not finite"])
def test_serve_stage_fails_for_every_image_escapes_after_three_batches(bench: Bench, kind: str) -> None:
    if kind == "raises":
        bench.runner.fault = _raising
    else:
        bench.runner.confidence = lambda task, stage: float("nan") if stage == 2 else 0.1
    tasks = [bench.submit(pixels(3, tag)) for tag in range(64)]
    with pytest.raises(StageBrokenError, match="stage 2 failed for every image of 3 batches"):
        bench.serve()
    assert bench.observer.counts == {"failed:2": 48}
    assert sum(task.future.done() for task in tasks) == 48


def test_serve_one_image_is_always_bad_the_worker_lives_on(bench: Bench) -> None:
    bench.runner.fault = _raising
    for _ in range(20):
        bench.submit(pixels(3, tag=5))
        bench.serve()
    assert bench.observer.counts == {"failed:2": 20}


@pytest.fixture
def loaded() -> Bench:
    """A worker at load level 1, where thresholds of 0.5 have given way to 0.15."""
    clock = FakeClock()
    shedding = Shedding(lambda version, thresholds: [(0.15,) * 3], lambda: 1.0)
    shedding.update(clock.now)
    clock.now = RISE_AFTER_S
    return Bench(FakeRunner(), RecordingObserver(), clock, shedding)


def test_load_image_leaves_where_the_lowered_threshold_lets_it(loaded: Bench) -> None:
    task = loaded.submit(pixels(3))
    loaded.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason, answer.threshold) == (0, ExitReason.LOAD, 0.15)
    assert loaded.observer.counts == {"exited:load": 1}
    assert loaded.runner.kept == {}


@pytest.mark.parametrize(
    ("exit_stage", "changes", "stage", "reason", "threshold"),
    [
        (0, {}, 0, ExitReason.CONFIDENT, 0.5),
        (3, {"follows_config": False}, 3, ExitReason.FINAL, None),
        (3, {"min_stage": 2}, 2, ExitReason.LOAD, 0.15),
        (3, {"max_stage": 0}, 0, ExitReason.MAX_STAGE, 0.5),
        (3, {"max_macs": 2}, 0, ExitReason.MAX_MACS, 0.5),
    ],
)
def test_load_only_what_would_have_gone_on_is_marked(
    loaded: Bench,
    exit_stage: int,
    changes: dict[str, object],
    stage: int,
    reason: ExitReason,
    threshold: float | None,
) -> None:
    task = loaded.submit(pixels(exit_stage), policy(**changes))
    loaded.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason, answer.threshold) == (stage, reason, threshold)


def test_load_not_even_the_lowered_threshold_is_reached_goes_on(loaded: Bench) -> None:
    loaded.runner.confidence = lambda task, stage: 0.1
    task = loaded.submit(pixels(3))
    loaded.serve()
    assert task.future.result(0).reason is ExitReason.FINAL
