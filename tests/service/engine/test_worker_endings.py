import weakref
from collections.abc import Callable, Sequence

import pytest
from engine_bench import Bench
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, RecordingObserver, pixels, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.policy import ExitReason
from service.engine.task import Task
from service.errors import ClientLeftError, DeadlineExceededError, DeviceLostError, InferenceError


@pytest.mark.parametrize("bad_stage", range(4))
@pytest.mark.parametrize("bad_row", [0, 5, 10])
def test_serve_stage_raises_for_one_image_neighbours_are_answered(bench: Bench, bad_stage: int, bad_row: int) -> None:
    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == bad_stage and any(task.task_id == bad_row for task in tasks):
            raise RuntimeError("boom")

    bench.runner.fault = fault
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


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("confidence", [float("nan"), float("inf")])
def test_serve_confidence_not_finite_fails_that_image_only(bench: Bench, stage: int, confidence: float) -> None:
    bench.runner.confidence = lambda task, at: confidence if (task.task_id, at) == (1, stage) else 0.1
    good, bad = (bench.submit(pixels(3)) for _ in range(2))
    bench.serve()
    assert good.future.result(0).reason == ExitReason.FINAL
    with pytest.raises(InferenceError, match=f"stage {stage} gave probabilities that are not finite"):
        bad.future.result(0)
    assert bench.runner.kept == {}


def _cancel_by_task(bench: Bench, task: Task) -> None:
    bench.cancel(task)


def _cancel_by_flag_alone(bench: Bench, task: Task) -> None:
    task.cancelled = True


@pytest.mark.parametrize("cancel", [_cancel_by_task, _cancel_by_flag_alone])
@pytest.mark.parametrize("running", range(4))
def test_cancel_while_a_stage_runs_no_later_one_starts(
    bench: Bench, running: int, cancel: Callable[[Bench, Task], None]
) -> None:
    task, other = bench.submit(pixels(3)), bench.submit(pixels(3))

    def fault(stage: int, tasks: Sequence[Task]) -> None:
        if stage == running:
            cancel(bench, task)

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


def test_deadline_before_any_stage_raises(bench: Bench) -> None:
    task = bench.submit(pixels(0), policy(timeout_s=0.5))
    bench.clock.now = 0.5
    bench.serve()
    with pytest.raises(DeadlineExceededError, match=r"within 0\.5 s"):
        task.future.result(0)
    assert bench.runner.batches == []
    assert bench.observer.counts == {"rejected:deadline": 1}


@pytest.mark.parametrize(("timeout_s", "stage"), [(0.5, 0), (1.5, 1), (2.0, 1), (2.5, 2)])
def test_deadline_after_a_stage_gives_the_best_answer_so_far(bench: Bench, timeout_s: float, stage: int) -> None:
    def one_second(stage: int, tasks: Sequence[Task]) -> None:
        bench.clock.now += 1.0

    bench.runner.fault = one_second
    task = bench.submit(pixels(3), policy(timeout_s=timeout_s))
    bench.serve()
    answer = task.future.result(0)
    assert (answer.prediction.stage, answer.reason) == (stage, ExitReason.DEADLINE)
    assert answer.macs == sum(STAGE_MACS[: stage + 1])
    assert answer.threshold == 0.5
    assert bench.observer.counts == {"exited:deadline": 1}
    assert bench.runner.kept == {}


def test_deadline_passes_in_the_last_stage_gives_its_answer(bench: Bench) -> None:
    def one_second(stage: int, tasks: Sequence[Task]) -> None:
        bench.clock.now += 1.0

    bench.runner.fault = one_second
    task = bench.submit(pixels(3), policy(timeout_s=3.5))
    bench.serve()
    assert task.future.result(0).reason == ExitReason.FINAL


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


_IMAGES = st.lists(
    st.tuples(
        st.integers(0, 3),  # exit stage
        st.sampled_from([None, 0, 1, 2, 3]),  # the stage that fails for it
        st.sampled_from([None, 0, 1, 2, 3]),  # the stage during which its client leaves
        st.sampled_from([None, 0.0, 1.5, 4.5]),  # timeout
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(images=_IMAGES)
def test_serve_any_mix_every_image_ends_as_exactly_one_thing(
    images: list[tuple[int, int | None, int | None, float | None]],
) -> None:
    bench = Bench(FakeRunner(), RecordingObserver(), FakeClock())
    tasks = [
        bench.submit(pixels(exit_stage, tag), policy(timeout_s=timeout_s))
        for tag, (exit_stage, _, _, timeout_s) in enumerate(images)
    ]

    def fault(stage: int, batch: Sequence[Task]) -> None:
        bench.clock.now += 1.0
        for task in batch:
            if images[task.task_id][2] == stage:
                bench.cancel(task)
        if any(images[task.task_id][1] == stage for task in batch):
            raise RuntimeError("boom")

    bench.runner.fault = fault
    bench.serve()

    for task, (exit_stage, bad_stage, cancel_stage, _) in zip(tasks, images, strict=True):
        error = task.future.exception(0)
        if error is None:
            answer = task.future.result(0)
            assert answer.prediction.indices == (task.task_id,)
            assert answer.macs == sum(STAGE_MACS[: answer.prediction.stage + 1])
            last = exit_stage if answer.reason != ExitReason.DEADLINE else answer.prediction.stage
            assert answer.prediction.stage == last
            assert bad_stage is None or bad_stage > last
            assert cancel_stage is None or cancel_stage > last
    assert sum(bench.observer.counts.values()) == len(images)
    assert bench.runner.kept == {}
    assert bench.worker.queue_depths() == (0, 0, 0, 0)
