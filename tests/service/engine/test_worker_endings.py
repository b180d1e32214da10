"""What fails, leaves or comes too late: it ends alone, and nobody else notices."""

import weakref
from collections.abc import Sequence

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, failing, passing, pixels

from service.engine.policy import ExitReason
from service.engine.stage_health import StageBrokenError
from service.engine.task import Task
from service.errors import ClientLeftError, DeadlineExceededError, DeviceLostError, InferenceError


@pytest.mark.parametrize(("bad_stage", "bad_row"), [(0, 0), (1, 5), (3, 10)])
def test_serve_stage_raises_for_one_image_neighbours_are_answered(bench: Bench, bad_stage: int, bad_row: int) -> None:
    bench.runner.fault = failing(bad_stage, lambda task: task.task_id == bad_row)
    tasks = [bench.submit(pixels(3, tag=tag)) for tag in range(11)]
    bench.serve()
    with pytest.raises(InferenceError, match=f"stage {bad_stage} could not be computed"):
        tasks[bad_row].future.result(0)
    good = [task for task in tasks if task.task_id != bad_row]
    assert [task.future.result(0).prediction.indices for task in good] == [(task.task_id,) for task in good]
    assert bench.observer.counts == {f"failed:{bad_stage}": 1, "exited:final": 10}
    assert bench.runner.kept == {}


def test_serve_state_cannot_be_kept_for_one_image_neighbours_go_on(bench: Bench) -> None:
    keep = bench.runner.keep

    def full(rows: Sequence[int]) -> None:
        if len(bench.runner.kept) + len(rows) > 3:
            raise RuntimeError("the pool is full")
        keep(rows)

    bench.runner.keep = full  # type: ignore[method-assign]
    tasks = [bench.submit(pixels(1)) for _ in range(4)]
    bench.serve()
    assert [task.future.exception(0) is None for task in tasks] == [True, True, True, False]
    assert bench.observer.counts == {"failed:0": 1, "exited:confident": 3}
    assert bench.runner.kept == {}


def test_serve_wrong_number_of_predictions_answers_nobody_wrongly(bench: Bench) -> None:
    run = bench.runner.run
    bench.runner.run = lambda stage, tasks: run(stage, tasks)[1:]  # type: ignore[method-assign]
    tasks = [bench.submit(pixels(0)) for _ in range(3)]
    bench.serve()
    assert [type(task.future.exception(0)) for task in tasks] == [InferenceError] * 3


def test_serve_failed_batch_is_let_go_before_its_halves_run(bench: Bench) -> None:
    class Memory:
        pass

    held: list[weakref.ref[Memory]] = []
    alive_at_retry = []

    def out_of_memory(stage: int, tasks: Sequence[Task]) -> None:
        alive_at_retry.append(sum(ref() is not None for ref in held))
        memory = Memory()
        held.append(weakref.ref(memory))
        if len(tasks) > 1:
            raise MemoryError

    bench.runner.fault = out_of_memory
    tasks = [bench.submit(pixels(0)) for _ in range(4)]
    bench.serve()
    assert [task.future.exception(0) for task in tasks] == [None] * 4
    assert alive_at_retry == [0] * 7


def test_serve_out_of_memory_later_batches_of_that_stage_are_smaller(bench: Bench) -> None:
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
    bench.runner.fault = failing(0, lambda task: task.task_id == 0)
    for tag in range(32):
        bench.submit(pixels(0, tag))
    bench.serve()
    assert bench.observer.batch_sizes[-1] == (0, 16)


@pytest.mark.parametrize(
    ("stage", "probs"),
    [(0, (float("nan"), 0.1)), (1, (float("inf"), 0.1)), (2, (0.9, float("nan"))), (3, (0.9, 0.1, float("nan")))],
)
def test_serve_any_probability_not_finite_fails_that_image_only(
    bench: Bench, stage: int, probs: tuple[float, ...]
) -> None:
    run = bench.runner.run

    def run_badly(at: int, tasks: Sequence[Task]) -> list[object]:
        predictions = run(at, tasks)
        for task, prediction in zip(tasks, predictions, strict=True):
            if (task.task_id, at) == (1, stage):
                object.__setattr__(prediction, "probs", probs)
        return list(predictions)

    bench.runner.run = run_badly  # type: ignore[method-assign,assignment]
    good, bad = (bench.submit(pixels(3)) for _ in range(2))
    bench.serve()
    assert good.future.result(0).reason == ExitReason.FINAL
    with pytest.raises(InferenceError, match=f"stage {stage} gave probabilities that are not finite"):
        bad.future.result(0)
    assert bench.runner.kept == {}


@pytest.mark.parametrize("kind", ["raises", "not finite"])
def test_serve_stage_fails_for_every_image_escapes_after_three_batches(bench: Bench, kind: str) -> None:
    if kind == "raises":
        bench.runner.fault = failing(2)
    else:
        bench.runner.confidence = lambda task, stage: float("nan") if stage == 2 else 0.1
    tasks = [bench.submit(pixels(3, tag)) for tag in range(64)]
    with pytest.raises(StageBrokenError, match="stage 2 failed for every image of 3 batches"):
        bench.serve()
    assert bench.observer.counts == {"failed:2": 48}
    assert sum(task.future.done() for task in tasks) == 48


def test_serve_one_image_is_always_bad_the_worker_lives_on(bench: Bench) -> None:
    bench.runner.fault = failing(2)
    for _ in range(20):
        bench.submit(pixels(3, tag=5))
        bench.serve()
    assert bench.observer.counts == {"failed:2": 20}


@pytest.mark.parametrize("method", ["run", "keep"])
def test_serve_device_lost_escapes_without_a_retry(bench: Bench, method: str) -> None:
    calls = []

    def lost(*args: object) -> None:
        calls.append(args)
        raise DeviceLostError("gone")

    setattr(bench.runner, method, lost)
    tasks = [bench.submit(pixels(3)) for _ in range(8)]
    with pytest.raises(DeviceLostError):
        bench.serve()
    assert len(calls) == 1
    assert not any(task.future.done() for task in tasks)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("running", range(4))
def test_cancel_while_a_stage_runs_no_later_one_starts(bench: Bench, running: int, told: bool) -> None:
    task, other = bench.submit(pixels(3)), bench.submit(pixels(3))

    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == running and told:
            bench.cancel(task)
        elif stage == running:
            task.cancelled = True

    bench.runner.fault = fault
    bench.serve()
    with pytest.raises(ClientLeftError):
        task.future.result(0)
    assert other.future.result(0).prediction.stage == 3
    assert [stage for stage, ids in bench.runner.batches if task.task_id in ids] == list(range(running + 1))
    assert bench.observer.counts == {"cancelled:compute": 1, "exited:final": 1}
    assert bench.runner.kept == {}


def test_cancel_while_waiting_for_the_first_stage_nothing_runs(bench: Bench) -> None:
    bench.cancel(task := bench.submit(pixels(0)))
    bench.serve()
    with pytest.raises(ClientLeftError):
        task.future.result(0)
    assert bench.runner.batches == []
    assert bench.observer.counts == {"cancelled:queue": 1}


def test_cancel_while_waiting_between_stages_frees_its_state(bench: Bench) -> None:
    deep = bench.submit(pixels(3))
    kept_before_stage_0_ran_again = []

    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if not bench.runner.batches:
            for _ in range(32):  # fuller than the one that waits for stage 1: it waits on
                bench.submit(pixels(0))
        elif stage == 0 and not deep.cancelled:
            bench.cancel(deep)
        elif stage == 0:
            kept_before_stage_0_ran_again.append(dict(bench.runner.kept))

    bench.runner.fault = fault
    bench.serve()
    with pytest.raises(ClientLeftError):
        deep.future.result(0)
    assert kept_before_stage_0_ran_again == [{}]
    assert bench.observer.counts == {"cancelled:queue": 1, "exited:confident": 32}


@pytest.mark.parametrize(
    ("knows", "timeout_s", "stage"),
    [
        # A stage that is not known to take a second is started, and its answer is used, if late.
        (False, 0.5, 0),
        (False, 2.0, 1),
        (False, 3.5, 3),
        # One that is known to end too late is not.
        (True, 1.0, 0),
        (True, 1.9, 0),
        (True, 3.9, 2),
        (True, 4.0, 3),
    ],
)
def test_deadline_after_a_stage_gives_the_best_answer_so_far(
    bench: Bench, knows: bool, timeout_s: float, stage: int
) -> None:
    bench.runner.fault = passing(bench.clock, 1.0)
    if knows:
        bench.learn(pixels(3))
    task, patient = bench.submit(pixels(3), timeout_s=timeout_s), bench.submit(pixels(3))
    bench.serve()
    answer = task.future.result(0)
    assert answer.prediction.stage == stage
    assert answer.reason == (ExitReason.FINAL if stage == 3 else ExitReason.DEADLINE)
    assert answer.macs == sum(STAGE_MACS[: stage + 1])
    assert answer.threshold == (None if stage == 3 else 0.5)
    assert (answer.queue_s, answer.compute_s) == (0.0, stage + 1.0)
    assert [ran for ran, ids in bench.runner.batches if task.task_id in ids] == list(range(stage + 1))
    assert patient.future.result(0).reason is ExitReason.FINAL
    assert bench.runner.kept == {}


@pytest.mark.parametrize(("knows", "timeout_s", "waited_s"), [(False, 0.5, 0.5), (True, 0.9, 0.0)])
def test_deadline_before_any_stage_could_finish_raises_at_once(
    bench: Bench, knows: bool, timeout_s: float, waited_s: float
) -> None:
    bench.runner.fault = passing(bench.clock, 1.0)
    if knows:
        bench.learn(pixels(3))
    task = bench.submit(pixels(0), timeout_s=timeout_s)
    bench.clock.now += waited_s
    bench.serve()
    with pytest.raises(DeadlineExceededError, match="by the deadline"):
        task.future.result(0)
    assert bench.runner.batches == []
    assert bench.observer.counts == {"rejected:deadline": 1}
    assert task.queue_s == waited_s
