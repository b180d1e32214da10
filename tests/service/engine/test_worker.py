"""The way of images through the stages; tests/service/engine/test_worker_properties.py has any mix of them."""

from collections.abc import Sequence

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, RecordingObserver, passing, pixels, policy

from service.engine.load import RISE_AFTER_S, Shedding
from service.engine.policy import ExitReason
from service.engine.task import StagePrediction, Task
from service.engine.worker import Signal


@pytest.mark.parametrize("exit_stage", range(4))
def test_serve_image_leaves_at_its_stage_with_the_macs_of_its_walk(bench: Bench, exit_stage: int) -> None:
    task = bench.submit(pixels(exit_stage, tag=7), policy(config_version=3))
    bench.serve()
    answer = task.future.result(0)
    assert answer.prediction == StagePrediction(stage=exit_stage, indices=(7,), probs=(0.9,))
    assert answer.reason == (ExitReason.FINAL if exit_stage == 3 else ExitReason.CONFIDENT)
    assert answer.threshold == (None if exit_stage == 3 else 0.5)
    assert answer.macs == sum(STAGE_MACS[: exit_stage + 1])
    assert (answer.config_version, answer.trace) == (3, ())


def test_serve_batches_hold_exactly_the_images_that_reached_the_stage(bench: Bench) -> None:
    tasks = [bench.submit(pixels(index % 4, tag=index)) for index in range(256)]
    bench.serve()
    ran: list[list[int]] = [[] for _ in range(4)]
    for stage, ids in bench.runner.batches:
        ran[stage] += ids
    for stage in range(4):
        assert sorted(ran[stage]) == [task.task_id for task in tasks if task.task_id % 4 >= stage]
    assert {size for _, size in bench.observer.batch_sizes} == {16}, "256, 192, 128 and 64 images fill every batch"
    assert [task.future.result(0).prediction.indices[0] for task in tasks] == list(range(256))
    assert bench.observer.macs == sum(task.future.result(0).macs for task in tasks)


def test_serve_waiting_and_computing_are_timed_apart(bench: Bench) -> None:
    bench.runner.fault = passing(bench.clock, 1.0)
    task = bench.submit(pixels(1))
    bench.clock.now = 0.25
    bench.serve()
    answer = task.future.result(0)
    assert (answer.queue_s, answer.compute_s) == (0.25, 2.0)
    assert bench.observer.batch_durations_s == [1.0, 1.0]
    assert bench.observer.queued_s == [[0.25], [0.0]]


def test_busy_s_is_the_age_of_the_step_in_progress(bench: Bench) -> None:
    ages = []

    def look(stage: int, tasks: Sequence[Task]) -> None:
        bench.clock.now += 3.0
        ages.append(bench.worker.busy_s)

    bench.runner.fault = look
    bench.submit(pixels(1))
    bench.serve()
    assert ages == [3.0, 3.0]
    assert bench.worker.busy_s == 0.0


def test_serve_told_to_stop_finishes_the_step_and_frees_what_is_left(bench: Bench) -> None:
    bench.runner.fault = lambda stage, tasks: bench.worker.inbox.put(Signal.STOP)
    leaving, staying = bench.submit(pixels(0)), bench.submit(pixels(3))
    bench.serve()
    assert (leaving.future.done(), staying.future.done()) == (True, False)
    assert len(bench.runner.batches) == 1
    assert bench.runner.kept == {}


@pytest.mark.parametrize(
    ("exit_stage", "changes", "stage", "reason", "threshold"),
    [
        (3, {}, 0, ExitReason.LOAD, 0.15),
        (0, {}, 0, ExitReason.CONFIDENT, 0.5),
        (3, {"follows_config": False}, 3, ExitReason.FINAL, None),
        (3, {"min_stage": 2}, 2, ExitReason.LOAD, 0.15),
        (3, {"max_stage": 0}, 0, ExitReason.MAX_STAGE, 0.5),
        (3, {"max_macs": 2}, 0, ExitReason.MAX_MACS, 0.5),
    ],
)
def test_serve_under_load_only_what_would_have_gone_on_leaves_at_the_lowered_threshold(
    exit_stage: int, changes: dict[str, object], stage: int, reason: ExitReason, threshold: float | None
) -> None:
    clock = FakeClock()
    shedding = Shedding(lambda version, thresholds: [(0.15,) * 3], lambda: 1.0)
    shedding.update(clock.now)
    clock.now = RISE_AFTER_S  # now at load level 1
    bench = Bench(FakeRunner(), RecordingObserver(), clock, shedding)
    task = bench.submit(pixels(exit_stage), policy(**changes))
    bench.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason, answer.threshold) == (stage, reason, threshold)
    assert bench.observer.counts == {f"exited:{reason}": 1}
    assert bench.runner.kept == {}
