import logging
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cascades import TINY_CONFIGS, randomised
from engine_fakes import RecordingObserver, policy

from models.cascade import Cascade
from models.config import HybridEmbeddingConfig
from models.reuse import ReuseState
from models.stage import StageOutput
from service.engine.engine import Engine
from service.engine.runner import TorchRunner
from service.engine.task import StagePrediction, Task
from service.errors import DeviceLostError

MakePixels = Callable[[int, int], np.ndarray]

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def _runner(cascade: Cascade, **changes: object) -> TorchRunner:
    options = {
        "mean": MEAN,
        "std": STD,
        "temperatures": (1.0, 2.0, 0.5, 1.5)[: cascade.config.num_stages],
        "max_batch_size": 8,
        "capacity": 8,
        **changes,
    }
    return TorchRunner(cascade, **options)


def _tasks(images: np.ndarray, top_k: int = 5) -> list[Task]:
    return [
        Task(task_id=row, pixels=image, policy=policy(top_k=top_k), submitted_at=0.0)
        for row, image in enumerate(images)
    ]


def _assert_close(found: list[list[StagePrediction]], expected: list[list[StagePrediction]], tolerance: float) -> None:
    for new, old in zip(found, expected, strict=True):
        assert [each.confidence for each in new] == pytest.approx([each.confidence for each in old], abs=tolerance)
        assert [each.indices[0] for each in new] == [each.indices[0] for each in old]


def _spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool, int]]:
    """(stage, whether it is given images, rows) of every call of the model from now on."""
    seen: list[tuple[int, bool, int]] = []
    forward_stage = Cascade.forward_stage

    def spy(cascade: Cascade, stage: int, images: torch.Tensor | None, state: ReuseState | None) -> StageOutput:
        output = forward_stage(cascade, stage, images, state)
        seen.append((stage, images is not None, len(output.logits)))
        return output

    monkeypatch.setattr(Cascade, "forward_stage", spy)
    return seen


def _walk_all(runner: TorchRunner, tasks: list[Task]) -> list[list[StagePrediction]]:
    """Every stage for every task, the order shuffled from stage to stage."""
    order, stages = np.random.default_rng(1), []
    last = len(runner.stage_macs) - 1
    for stage in range(last + 1):
        shuffled = [tasks[row] for row in order.permutation(len(tasks))]
        predictions = runner.run(stage, shuffled)
        runner.keep(range(len(shuffled)) if stage < last else ())
        by_id = {task.task_id: prediction for task, prediction in zip(shuffled, predictions, strict=True)}
        stages.append([by_id[task.task_id] for task in tasks])
    runner.release(tasks)
    return stages


def test_run_every_kind_equals_the_model_itself(tiny_cascade: Cascade, make_pixels: MakePixels) -> None:
    images = make_pixels(6, tiny_cascade.config.image_size)
    found = _walk_all(_runner(tiny_cascade), _tasks(images))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    logits = tiny_cascade((torch.from_numpy(images) / 255 - mean) / std)
    temperatures = (1.0, 2.0, 0.5, 1.5)
    for stage, exit_logits in enumerate(logits):
        probs, indices = (exit_logits / temperatures[stage]).softmax(dim=-1).sort(dim=-1, descending=True)
        assert [prediction.indices for prediction in found[stage]] == [tuple(row) for row in indices.tolist()]
        torch.testing.assert_close(
            torch.tensor([prediction.probs for prediction in found[stage]]), probs, atol=1e-5, rtol=0
        )


def test_run_in_a_batch_equals_alone(make_pixels: MakePixels) -> None:
    cascade = randomised(TINY_CONFIGS["hybrid"])
    runner, tasks = _runner(cascade), _tasks(make_pixels(5, 28))
    together = _walk_all(runner, tasks)
    for row, task in enumerate(tasks):
        _assert_close(_walk_all(runner, [task]), [[stage[row]] for stage in together], 1e-5)


def test_run_padded_to_buckets_equals_exact_sizes(make_pixels: MakePixels) -> None:
    cascade, tasks = randomised(TINY_CONFIGS["patch"]), _tasks(make_pixels(5, 28))
    _assert_close(_walk_all(_runner(cascade, buckets=(4, 8)), tasks), _walk_all(_runner(cascade), tasks), 1e-5)


def test_run_top_k_of_each_row_is_its_own(make_pixels: MakePixels) -> None:
    tasks = _tasks(make_pixels(2, 28), top_k=1) + _tasks(make_pixels(1, 28), top_k=99)
    predictions = _runner(randomised(TINY_CONFIGS["hybrid"])).run(0, tasks)
    assert [len(prediction.indices) for prediction in predictions] == [1, 1, 5]
    assert all(len(prediction.probs) == len(prediction.indices) for prediction in predictions)


def test_run_escalated_after_a_retry_still_finds_its_state(make_pixels: MakePixels) -> None:
    runner, tasks = _runner(randomised(TINY_CONFIGS["hybrid"])), _tasks(make_pixels(4, 28))
    runner.run(0, tasks)
    runner.keep(range(4))
    whole = runner.run(1, tasks)
    halves = runner.run(1, tasks[:2])
    runner.keep([0, 1])
    halves += runner.run(1, tasks[2:])
    runner.keep([0, 1])
    assert [a.confidence for a in whole] == pytest.approx([b.confidence for b in halves], abs=1e-5)
    assert len(runner.run(2, tasks)) == 4


def test_keep_only_named_rows_and_release_empties_the_pool(make_pixels: MakePixels) -> None:
    runner, tasks = _runner(randomised(TINY_CONFIGS["hybrid"])), _tasks(make_pixels(4, 28))
    runner.run(0, tasks)
    runner.keep([1, 3])
    assert len(runner._pool) == 2
    runner.run(1, [tasks[3], tasks[1]])
    with pytest.raises(LookupError, match="task 0 holds no reuse state"):
        runner.run(1, [tasks[0]])
    runner.release(tasks)
    assert len(runner._pool) == 0


def test_warm_up_leaves_no_state_behind_and_logs_what_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    config = TINY_CONFIGS["hybrid"]
    assert isinstance(config.embedding, HybridEmbeddingConfig)
    runner = _runner(randomised(config), capacity=20)
    with caplog.at_level(logging.INFO):
        runner.warm_up()
    assert len(runner._pool) == 0
    floats = config.embedding.channels[-1] * config.embedding.map_size(config.image_size) ** 2
    for tokens in (config.num_tokens(stage) for stage in range(3)):
        floats += tokens * config.embed_dim + config.num_relations * tokens**2
    taken = f"the reuse state of 20 images takes {80 * floats / 1e6:.1f} MB, {4 * floats / 1e3:.1f} kB each"
    assert caplog.messages == [taken]


def test_warm_up_returns_seconds_of_every_stage_and_size() -> None:
    times = _runner(randomised(TINY_CONFIGS["hybrid"]), max_batch_size=5).warm_up()
    ran = [(stage, size) for stage, size, seconds in times if seconds > 0]
    assert ran == [(stage, size) for stage in range(4) for size in (1, 2, 4, 5)]


def test_run_bfloat16_on_a_cpu_pads_to_a_bucket(make_pixels: MakePixels, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _spied(monkeypatch)
    runner = _runner(randomised(TINY_CONFIGS["hybrid"]), dtype=torch.bfloat16)
    assert len(runner.run(0, _tasks(make_pixels(3, 28)))) == 3
    assert seen == [(0, True, 4)]
    assert runner.dtype == "bfloat16"


def test_run_bfloat16_is_close_to_float32(make_pixels: MakePixels) -> None:
    cascade, tasks = randomised(TINY_CONFIGS["hybrid"]), _tasks(make_pixels(6, 28))
    exact = _walk_all(_runner(cascade), tasks)
    rounded = _walk_all(_runner(cascade, dtype=torch.bfloat16), tasks)
    for old, new in zip(exact, rounded, strict=True):
        by_class = [dict(zip(row.indices, row.probs, strict=True)) for row in new]
        for row, prediction in enumerate(old):
            assert by_class[row][prediction.indices[0]] == pytest.approx(prediction.confidence, abs=0.06)


def test_runner_wrong_number_of_temperatures_raises() -> None:
    with pytest.raises(ValueError, match="expected 4 temperatures, got 1"):
        _runner(randomised(TINY_CONFIGS["hybrid"]), temperatures=(1.0,))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError),
        (torch.AcceleratorError("device-side assert triggered"), DeviceLostError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("shapes do not match"), RuntimeError),
    ],
)
def test_run_model_raises_a_lost_device_is_told_from_a_failed_batch(
    make_pixels: MakePixels, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception]
) -> None:
    def broken(*args: object) -> None:
        raise error

    runner, tasks = _runner(randomised(TINY_CONFIGS["hybrid"])), _tasks(make_pixels(2, 28))
    runner.run(0, tasks)
    monkeypatch.setattr(Cascade, "forward_stage", broken)
    with pytest.raises(expected) as raised:
        runner.run(0, tasks)
    assert raised.type is expected
    with pytest.raises(RuntimeError, match="no reuse state to keep: the last run failed"):
        runner.keep([0])


@pytest.mark.parametrize(("buckets", "sizes"), [((), [5, 3, 2, 1]), ((4, 8), [8, 4, 4, 4])])
@pytest.mark.parametrize("kind", ["hybrid", "patch"])
def test_run_the_model_sees_exactly_the_tasks_given_padded_or_not(
    make_pixels: MakePixels,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    buckets: tuple[int, ...],
    sizes: list[int],
) -> None:
    seen = _spied(monkeypatch)
    runner, tasks = _runner(randomised(TINY_CONFIGS[kind]), buckets=buckets), _tasks(make_pixels(5, 28))
    for stage, count in enumerate([5, 3, 2, 1]):
        assert len(runner.run(stage, tasks[:count])) == count
        runner.keep(range(count) if stage < 3 else ())
    assert seen == [(stage, stage == 0 or kind == "patch", size) for stage, size in enumerate(sizes)]


@pytest.mark.parametrize("pixels", [np.zeros((3, 28, 27), np.uint8), np.zeros((3, 28, 28))])
def test_run_pixels_of_another_shape_or_type_raise_and_spoil_nothing(
    make_pixels: MakePixels, pixels: np.ndarray
) -> None:
    runner, tasks = _runner(randomised(TINY_CONFIGS["hybrid"])), _tasks(make_pixels(2, 28))
    before = runner.run(0, tasks)
    (bad,) = _tasks(pixels[np.newaxis])
    for batch in ([tasks[0], bad], [bad]):
        with pytest.raises((ValueError, TypeError)):
            runner.run(0, batch)
    assert runner.run(0, tasks) == before


def test_keep_after_the_last_stage_raises(make_pixels: MakePixels) -> None:
    runner, tasks = _runner(randomised(TINY_CONFIGS["hybrid"])), _tasks(make_pixels(1, 28))
    for stage in range(4):
        runner.run(stage, tasks)
        if stage < 3:
            runner.keep([0])
    with pytest.raises(RuntimeError, match="or was of the last stage"):
        runner.keep([0])


def test_engine_with_a_model_exits_as_the_model_alone_would(make_pixels: MakePixels) -> None:
    cascade = randomised(TINY_CONFIGS["hybrid"])
    images = make_pixels(24, 28)
    stages = _walk_all(_runner(cascade, max_batch_size=24, capacity=24), _tasks(images))
    # Half of the images that reach a stage leave there.
    thresholds, reached = [], range(24)
    for stage in range(3):
        confidences = sorted(stages[stage][row].confidence for row in reached)
        middle = len(confidences) // 2
        thresholds.append((confidences[middle - 1] + confidences[middle]) / 2)
        reached = [row for row in reached if stages[stage][row].confidence < thresholds[stage]]
    runner, observer = _runner(cascade, capacity=24), RecordingObserver()
    engine = Engine(runner, observer=observer, max_inflight=24, max_batch_size=8)
    engine.start()
    engine.wait_ready(30)
    tasks = [engine.submit(image, policy(thresholds=tuple(thresholds))) for image in images]
    answers = [task.future.result(30) for task in tasks]
    engine.stop(drain=True, timeout_s=30)

    assert Counter(answer.prediction.stage for answer in answers) == {0: 12, 1: 6, 2: 3, 3: 3}
    for row, answer in enumerate(answers):
        alone = stages[answer.prediction.stage][row]
        assert answer.prediction.indices == alone.indices
        assert answer.prediction.probs == pytest.approx(alone.probs, abs=1e-5)
    assert observer.macs == sum(sum(runner.stage_macs[: answer.prediction.stage + 1]) for answer in answers)
    assert len(runner._pool) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_run_cuda_equals_cpu(make_pixels: MakePixels) -> None:
    cascade, tasks = randomised(TINY_CONFIGS["hybrid"]), _tasks(make_pixels(5, 28))
    _assert_close(_walk_all(_runner(cascade, device="cuda"), tasks), _walk_all(_runner(cascade), tasks), 1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["hybrid", "patch"])
def test_run_cuda_graphs_equal_kernels_launched_one_by_one(make_pixels: MakePixels, kind: str) -> None:
    cascade, tasks = randomised(TINY_CONFIGS[kind]), _tasks(make_pixels(5, 28))
    graphed, launched = (_runner(cascade, device="cuda", cuda_graphs=choice) for choice in (True, False))
    graphed.warm_up()
    _assert_close(_walk_all(graphed, tasks), _walk_all(launched, tasks), 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_warm_up_cuda_records_every_stage_and_bucket(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _runner(randomised(TINY_CONFIGS["hybrid"]), device="cuda", buckets=(4, 8)).warm_up()
    assert "8 CUDA graphs were recorded" in caplog.messages
