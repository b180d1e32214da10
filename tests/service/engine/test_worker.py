from collections.abc import Sequence

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, pixels, policy

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
    assert answer.config_version == 3
    assert answer.trace == ()


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
    assert bench.runner.kept == {}
    assert bench.worker.queue_depths() == (0, 0, 0, 0)


def test_serve_neighbours_with_other_policies_each_follow_their_own(bench: Bench) -> None:
    old = bench.submit(pixels(0), policy(thresholds=(0.95, 0.5, 0.5), config_version=1))
    new = bench.submit(pixels(0), policy(thresholds=(0.5, 0.5, 0.5), config_version=2))
    bench.serve()
    assert bench.runner.batches[0] == (0, [old.task_id, new.task_id])
    assert [(task.future.result(0).prediction.stage, task.future.result(0).config_version) for task in (old, new)] == [
        (1, 1),
        (0, 2),
    ]


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"max_stage": 1}, 1, ExitReason.MAX_STAGE),
        ({"max_macs": 3}, 1, ExitReason.MAX_MACS),
        ({"max_macs": 7}, 2, ExitReason.CONFIDENT),
        ({"min_stage": 3}, 3, ExitReason.FINAL),
    ],
)
def test_serve_limits_keep_later_stages_from_running(
    bench: Bench, changes: dict[str, object], stage: int, reason: ExitReason
) -> None:
    task = bench.submit(pixels(2), policy(**changes))
    bench.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason) == (stage, reason)
    assert [ran for ran, _ in bench.runner.batches] == list(range(stage + 1))


def test_serve_trace_holds_every_stage(bench: Bench) -> None:
    task = bench.submit(pixels(2), policy(trace=True))
    bench.serve()
    assert [(step.stage, step.confidence) for step in task.future.result(0).trace] == [(0, 0.2), (1, 0.2), (2, 0.9)]


def test_serve_waiting_and_computing_are_timed_apart(bench: Bench) -> None:
    def one_second(stage: int, tasks: Sequence[Task]) -> None:
        bench.clock.now += 1.0

    bench.runner.fault = one_second
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
    def stop(stage: int, tasks: Sequence[Task]) -> None:
        bench.worker.inbox.put(Signal.STOP)

    bench.runner.fault = stop
    leaving, staying = bench.submit(pixels(0)), bench.submit(pixels(3))
    bench.serve()
    assert leaving.future.done()
    assert not staying.future.done()
    assert len(bench.runner.batches) == 1
    assert bench.runner.kept == {}
