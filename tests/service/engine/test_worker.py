"""Images on their way through the stages; tests/service/engine/test_worker_properties.py has any mix of them."""

import weakref

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, failing, passing, pixels, policy

from service.engine.load import RISE_AFTER_S, Shedding
from service.engine.policy import ExitReason
from service.engine.stage_health import StageBrokenError
from service.engine.worker import Signal
from service.errors import ClientLeftError, DeadlineExceededError, DeviceLostError, InferenceError

NAN, NONE = float("nan"), type(None)


def _errors(tasks):
    return [type(task.future.exception(0)) for task in tasks]


def test_serve_batches_hold_exactly_the_images_that_reached_the_stage(bench):
    tasks = [bench.submit(pixels(index % 4, tag=index)) for index in range(256)]
    bench.serve()
    for stage in range(4):
        ran = [task_id for at, ids in bench.runner.batches if at == stage for task_id in ids]
        assert sorted(ran) == [task.task_id for task in tasks if task.task_id % 4 >= stage]
    assert {size for _, size in bench.observer.batch_sizes} == {16}, "256, 192, 128 and 64 images fill every batch"
    assert [task.future.result(0).prediction.indices[0] for task in tasks] == list(range(256))
    assert bench.observer.macs == sum(task.future.result(0).macs for task in tasks)


def test_serve_waiting_and_computing_are_timed_apart_and_the_step_in_progress_has_an_age(bench):
    ages = []

    def take_a_second(stage, tasks):
        bench.clock.now += 1.0
        ages.append(bench.worker.busy_s)

    bench.runner.fault = take_a_second
    task = bench.submit(pixels(1))
    bench.clock.now = 0.25
    bench.serve()
    answer = task.future.result(0)
    assert (answer.queue_s, answer.compute_s) == (0.25, 2.0)
    assert (bench.observer.batch_durations_s, bench.observer.queued_s) == ([1.0, 1.0], [[0.25], [0.0]])
    assert (ages, bench.worker.busy_s) == ([1.0, 1.0], 0.0)


def test_serve_told_to_stop_finishes_the_step_and_frees_what_is_left(bench):
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
    ],
)
def test_serve_under_load_only_what_would_have_gone_on_leaves_at_the_lowered_threshold(
    exit_stage, changes, stage, reason, threshold
):
    shedding = Shedding(lambda version, thresholds: [(0.15,) * 3], lambda: 1.0)
    shedding.update(-RISE_AFTER_S)
    bench = Bench(shedding)  # at load level 1 from now, 0, on
    task = bench.submit(pixels(exit_stage), policy(**changes))
    bench.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason, answer.threshold) == (stage, reason, threshold)


@pytest.mark.parametrize(
    ("stage", "probs", "message"),
    [
        (0, None, "could not be computed"),
        (3, None, "could not be computed"),
        (1, (NAN, 0.1), "gave probabilities that are not finite"),
        (3, (0.9, 0.1, float("inf")), "gave probabilities that are not finite"),
    ],
)
def test_serve_stage_fails_for_one_image_neighbours_are_answered(bench, stage, probs, message):
    run = bench.runner.run

    def run_badly(at, tasks):
        predictions = run(at, tasks)
        for task, prediction in zip(tasks, predictions, strict=True):
            if (task.task_id, at) == (5, stage):
                object.__setattr__(prediction, "probs", probs)
        return predictions

    if probs is None:
        bench.runner.fault = failing(stage, lambda task: task.task_id == 5)
    else:
        bench.runner.run = run_badly
    tasks = [bench.submit(pixels(3, tag=tag)) for tag in range(11)]
    bench.serve()
    with pytest.raises(InferenceError, match=f"stage {stage} {message}"):
        tasks.pop(5).future.result(0)
    assert [task.future.result(0).prediction.indices for task in tasks] == [(task.task_id,) for task in tasks]
    assert bench.observer.counts == {f"failed:{stage}": 1, "exited:final": 10}
    assert bench.runner.kept == {}


def test_serve_state_cannot_be_kept_for_one_image_neighbours_go_on(bench):
    keep = bench.runner.keep

    def full(rows):
        if len(bench.runner.kept) + len(rows) > 3:
            raise RuntimeError("the pool is full")
        keep(rows)

    bench.runner.keep = full
    tasks = [bench.submit(pixels(1)) for _ in range(4)]
    bench.serve()
    assert _errors(tasks) == [NONE] * 3 + [InferenceError]
    assert bench.observer.counts == {"failed:0": 1, "exited:confident": 3}
    assert bench.runner.kept == {}


def test_serve_wrong_number_of_predictions_answers_nobody_wrongly(bench):
    run = bench.runner.run
    bench.runner.run = lambda stage, tasks: run(stage, tasks)[1:]
    tasks = [bench.submit(pixels(0)) for _ in range(3)]
    bench.serve()
    assert _errors(tasks) == [InferenceError] * 3


def test_serve_failed_batch_is_let_go_before_its_halves_run(bench):
    class Memory:
        pass

    held, alive_at_retry = [], []

    def out_of_memory(stage, tasks):
        alive_at_retry.append(sum(ref() is not None for ref in held))
        memory = Memory()
        held.append(weakref.ref(memory))
        if len(tasks) > 1:
            raise MemoryError

    bench.runner.fault = out_of_memory
    for _ in range(4):
        bench.submit(pixels(0))
    bench.serve()
    assert bench.observer.counts == {"exited:confident": 4}
    assert alive_at_retry == [0] * 7


@pytest.mark.parametrize(("error", "after"), [(MemoryError, [8, 8]), (RuntimeError, [16])])
def test_serve_out_of_memory_later_batches_of_that_stage_are_smaller(bench, error, after):
    sizes = []

    def fail_once(stage, tasks):
        sizes.append((stage, len(tasks)))
        if sizes.count((1, 16)) == 1 and sizes[-1] == (1, 16):
            raise error

    bench.runner.fault = fail_once
    for _ in range(32):
        bench.submit(pixels(1))
    bench.serve()
    assert bench.observer.counts == {"exited:confident": 32}
    assert [size for stage, size in sizes if stage == 0] == [16, 16]
    assert [size for stage, size in sizes if stage == 1] == [16, 8, 8, *after]


def test_serve_after_out_of_memory_a_hundred_full_batches_let_the_size_grow_back(bench):
    def fail_first(stage, tasks):
        if not bench.runner.batches and len(tasks) == 16:
            raise MemoryError

    bench.runner.fault = fail_first
    for _ in range(100 * 8 + 16):
        bench.submit(pixels(0))
    bench.serve()
    assert bench.observer.batch_sizes == [(0, 8)] * 100 + [(0, 16)]


@pytest.mark.parametrize("raises", [True, False])
def test_serve_stage_fails_for_every_image_of_three_batches_in_a_row_escapes(bench, raises):
    bench.submit(pixels(0))
    bench.serve()  # another stage's success changes nothing
    if raises:
        bench.runner.fault = failing(2)
    else:
        bench.runner.confidence = lambda task, stage: NAN if stage == 2 else 0.1
    tasks = [bench.submit(pixels(3, tag)) for tag in range(64)]
    with pytest.raises(StageBrokenError, match="stage 2 failed for every image of 3 batches"):
        bench.serve()
    assert bench.observer.counts == {"exited:confident": 1, "failed:2": 48}
    assert sum(task.future.done() for task in tasks) == 48


@pytest.mark.parametrize("images", [(5, 5, 5, 5), (1, 2, None, 3, 4, None)])
def test_serve_one_bad_image_or_a_success_in_between_is_no_broken_stage(bench, images):
    bench.runner.fault = failing(0, lambda task: task.pixels[1, 0, 0] > 0)
    for tag in images:
        bench.submit(pixels(0, tag or 0))
        bench.serve()
    assert bench.observer.counts["failed:0"] == 4


@pytest.mark.parametrize("method", ["run", "keep"])
def test_serve_device_lost_escapes_without_a_retry(bench, method):
    calls = []

    def lost(*args):
        calls.append(args)
        raise DeviceLostError("gone")

    setattr(bench.runner, method, lost)
    tasks = [bench.submit(pixels(3)) for _ in range(8)]
    with pytest.raises(DeviceLostError):
        bench.serve()
    assert len(calls) == 1
    assert not any(task.future.done() for task in tasks)


@pytest.mark.parametrize("running", [None, 0, 3])
def test_cancel_while_waiting_or_in_a_stage_no_later_one_starts(bench, running):
    task, other = bench.submit(pixels(3)), bench.submit(pixels(3))
    if running is None:
        bench.cancel(task)
    bench.runner.fault = lambda stage, tasks: bench.cancel(task) if stage == running else None
    bench.serve()
    assert _errors([task, other]) == [ClientLeftError, NONE]
    ran = [stage for stage, ids in bench.runner.batches if task.task_id in ids]
    assert ran == ([] if running is None else list(range(running + 1)))
    assert bench.observer.counts == {f"cancelled:{'queue' if running is None else 'compute'}": 1, "exited:final": 1}
    assert bench.runner.kept == {}


@pytest.mark.parametrize(
    ("knows", "timeout_s", "stage"),
    [
        # A stage that is not known to take a second is started, and its answer is used, if late.
        (False, 0.5, 0),
        (False, 3.5, 3),
        # One that is known to end too late is not.
        (True, 1.0, 0),
        (True, 3.9, 2),
        (True, 4.0, 3),
    ],
)
def test_deadline_after_a_stage_gives_the_best_answer_so_far(bench, knows, timeout_s, stage):
    bench.runner.fault = passing(bench.clock, 1.0)
    if knows:
        bench.learn(pixels(3))
    task, patient = bench.submit(pixels(3), timeout_s=timeout_s), bench.submit(pixels(3))
    bench.serve()
    answer = task.future.result(0)
    assert answer.prediction.stage == stage
    assert answer.reason == (ExitReason.FINAL if stage == 3 else ExitReason.DEADLINE)
    assert answer.threshold == (None if stage == 3 else 0.5)
    assert answer.macs == sum(STAGE_MACS[: stage + 1])
    assert (answer.queue_s, answer.compute_s) == (0.0, stage + 1.0)
    assert patient.future.result(0).reason is ExitReason.FINAL
    assert bench.runner.kept == {}


@pytest.mark.parametrize(("knows", "timeout_s"), [(False, 0.5), (True, 1.4)])
def test_deadline_before_any_stage_could_finish_raises_at_once(bench, knows, timeout_s):
    bench.runner.fault = passing(bench.clock, 1.0)
    if knows:
        bench.learn(pixels(3))
    task = bench.submit(pixels(0), timeout_s=timeout_s)
    bench.clock.now += 0.5
    bench.serve()
    assert _errors([task]) == [DeadlineExceededError]
    assert bench.runner.batches == []
    assert bench.observer.counts == {"rejected:deadline": 1}
    assert task.queue_s == 0.5
