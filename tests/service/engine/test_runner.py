import logging

import numpy as np
import pytest
import torch
from cascades import TINY, TINY_CONFIGS, randomised
from engine_fakes import RecordingObserver, make_task, policy

from models.cascade import Cascade
from service.engine.engine import Engine
from service.engine.runner import TorchRunner
from service.errors import DeviceLostError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
TEMPERATURES = (1.0, 2.0, 0.5, 1.5)
CASCADE = randomised(TINY)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _runner(cascade=CASCADE, **changes):
    temperatures = TEMPERATURES[: cascade.config.num_stages]
    options = {"mean": MEAN, "std": STD, "temperatures": temperatures, "max_batch_size": 8, "capacity": 8, **changes}
    return TorchRunner(cascade, **options)


@pytest.fixture
def make_tasks(make_pixels):
    """`make_tasks(count)`: tasks of that many images."""

    def make(count, side=28, top_k=5):
        return [make_task(row, image, top_k=top_k) for row, image in enumerate(make_pixels(count, side))]

    return make


@pytest.fixture
def seen(monkeypatch):
    """(stage, whether it is given images, rows) of every call of a model."""
    seen, forward_stage = [], Cascade.forward_stage

    def spy(cascade, stage, images, state):
        output = forward_stage(cascade, stage, images, state)
        seen.append((stage, images is not None, len(output.logits)))
        return output

    monkeypatch.setattr(Cascade, "forward_stage", spy)
    return seen


def _walk_all(runner, tasks):
    """Every stage for every task, the order shuffled from stage to stage; afterwards no state is left to keep."""
    order, stages = np.random.default_rng(1), []
    last = len(runner.stage_macs) - 1
    for stage in range(last + 1):
        shuffled = [tasks[row] for row in order.permutation(len(tasks))]
        predictions = runner.run(stage, shuffled)
        if stage < last:
            runner.keep(range(len(shuffled)))
        by_id = {task.task_id: prediction for task, prediction in zip(shuffled, predictions, strict=True)}
        stages.append([by_id[task.task_id] for task in tasks])
    with pytest.raises(RuntimeError, match="or was of the last stage"):
        runner.keep([0])
    runner.release(tasks)
    assert len(runner._pool) == 0
    return stages


def _assert_close(found, expected, tolerance):
    for new, old in zip(found, expected, strict=True):
        assert [each.confidence for each in new] == pytest.approx([each.confidence for each in old], abs=tolerance)
        assert [each.indices[0] for each in new] == [each.indices[0] for each in old]


@pytest.mark.parametrize("kind", ["deeper_maps", "no_reuse", "authors_grids", "looks"])
def test_run_every_kind_equals_the_model_itself(make_tasks, kind):
    cascade = randomised(TINY_CONFIGS[kind])
    tasks = make_tasks(6, cascade.config.image_size)
    found = _walk_all(_runner(cascade), tasks)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    logits = cascade((torch.from_numpy(np.stack([task.pixels for task in tasks])) / 255 - mean) / std)
    for predictions, exit_logits, temperature in zip(found, logits, TEMPERATURES, strict=False):
        probs, indices = (exit_logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
        assert [prediction.indices for prediction in predictions] == [tuple(row) for row in indices.tolist()]
        found_probs = torch.tensor([prediction.probs for prediction in predictions])
        torch.testing.assert_close(found_probs, probs, atol=1e-5, rtol=0)


def test_run_alone_or_padded_to_buckets_equals_in_a_batch(make_tasks):
    tasks = make_tasks(5)
    together = _walk_all(_runner(), tasks)
    _assert_close(_walk_all(_runner(buckets=(4, 8)), tasks), together, 1e-5)
    _assert_close(_walk_all(_runner(), tasks[2:3]), [stage[2:3] for stage in together], 1e-5)


def test_runner_wrong_number_of_temperatures_raises():
    with pytest.raises(ValueError, match="expected 4 temperatures, got 1"):
        _runner(temperatures=(1.0,))


def test_run_top_k_of_each_row_is_its_own(make_tasks):
    predictions = _runner().run(0, make_tasks(2, top_k=1) + make_tasks(1, top_k=99))
    assert [len(prediction.indices) for prediction in predictions] == [1, 1, 5]
    assert [len(prediction.probs) for prediction in predictions] == [1, 1, 5]


def test_run_escalated_after_a_retry_still_finds_its_state(make_tasks):
    runner, tasks = _runner(), make_tasks(4)
    runner.run(0, tasks)
    runner.keep(range(4))
    whole, halves = runner.run(1, tasks), []
    for half in (tasks[:2], tasks[2:]):
        halves += runner.run(1, half)
        runner.keep([0, 1])
    assert [a.confidence for a in whole] == pytest.approx([b.confidence for b in halves], abs=1e-5)
    assert len(runner.run(2, tasks)) == 4


def test_keep_only_named_rows_and_release_empties_the_pool(make_tasks):
    runner, tasks = _runner(), make_tasks(4)
    runner.run(0, tasks)
    runner.keep([1, 3])
    assert len(runner._pool) == 2
    runner.run(1, [tasks[3], tasks[1]])
    with pytest.raises(LookupError, match="task 0 holds no reuse state"):
        runner.run(1, [tasks[0]])
    with pytest.raises(RuntimeError, match="no reuse state to keep: the last run failed"):
        runner.keep([0])
    runner.release(tasks)
    assert len(runner._pool) == 0


def test_warm_up_runs_every_stage_and_size_leaves_no_state_and_logs_what_it_takes(caplog, monkeypatch):
    monkeypatch.setattr("service.engine.warm_up.ENOUGH_S", 60.0)
    runner = _runner(capacity=20, max_batch_size=5)
    with caplog.at_level(logging.INFO):
        times = runner.warm_up()
    ran = [(stage, size) for stage, size, seconds in times if seconds > 0]
    assert ran == [(stage, size) for stage in range(4) for size in (1, 2, 4, 5)]
    assert len(runner._pool) == 0
    floats = TINY.embedding.channels[-1] * TINY.embedding.map_size(TINY.image_size) ** 2
    for tokens in (TINY.num_tokens(stage) for stage in range(3)):
        floats += tokens * TINY.embed_dim + TINY.num_relations * tokens**2
    taken = f"the reuse state of 20 images takes {80 * floats / 1e6:.1f} MB, {4 * floats / 1e3:.1f} kB each"
    assert caplog.messages == [taken]


def test_run_bfloat16_on_a_cpu_is_padded_and_close_to_float32(make_tasks, seen):
    tasks, runner = make_tasks(6), _runner(dtype=torch.bfloat16)
    rounded = _walk_all(runner, tasks)
    assert runner.dtype == "bfloat16"
    assert [rows for _, _, rows in seen] == [8] * 4
    for old, new in zip(_walk_all(_runner(), tasks), rounded, strict=True):
        by_class = [dict(zip(row.indices, row.probs, strict=True)) for row in new]
        for row, prediction in enumerate(old):
            assert by_class[row][prediction.indices[0]] == pytest.approx(prediction.confidence, abs=0.06)


@pytest.mark.parametrize("method", ["run", "keep"])
def test_run_or_keep_device_fails_is_a_lost_device(make_tasks, monkeypatch, method):
    def broken(*args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    runner, tasks = _runner(), make_tasks(2)
    runner.run(0, tasks)
    if method == "run":
        monkeypatch.setattr(Cascade, "forward_stage", broken)
    else:
        monkeypatch.setattr(runner._pool, "store", broken)
    with pytest.raises(DeviceLostError):
        runner.run(0, tasks) if method == "run" else runner.keep([0])
    with pytest.raises(RuntimeError, match="no reuse state to keep: the last run failed"):
        runner.keep([0])


@pytest.mark.parametrize(("buckets", "sizes"), [((), [5, 3, 2, 1]), ((4, 8), [8, 4, 4, 4])])
@pytest.mark.parametrize("kind", ["hybrid", "patch"])
def test_run_the_model_sees_exactly_the_tasks_given_padded_or_not(make_tasks, seen, kind, buckets, sizes):
    runner, tasks = _runner(randomised(TINY_CONFIGS[kind]), buckets=buckets), make_tasks(5)
    for stage, count in enumerate([5, 3, 2, 1]):
        assert len(runner.run(stage, tasks[:count])) == count
        runner.keep(range(count) if stage < 3 else ())
    assert seen == [(stage, stage == 0 or kind == "patch", size) for stage, size in enumerate(sizes)]


@pytest.mark.parametrize("pixels", [np.zeros((3, 28, 27), np.uint8), np.zeros((3, 28, 28))])
def test_run_pixels_of_another_shape_or_type_raise_and_spoil_nothing(make_tasks, pixels):
    runner, tasks = _runner(), make_tasks(2)
    before = runner.run(0, tasks)
    for batch in ([tasks[0], make_task(2, pixels)], [make_task(2, pixels)]):
        with pytest.raises((ValueError, TypeError)):
            runner.run(0, batch)
    assert runner.run(0, tasks) == before


def test_engine_with_a_model_exits_as_the_model_alone_would(make_tasks):
    tasks = make_tasks(24)
    stages = _walk_all(_runner(max_batch_size=24), tasks)
    thresholds = tuple(float(np.median([each.confidence for each in stage])) for stage in stages[:3])
    runner, observer = _runner(capacity=24), RecordingObserver()
    engine = Engine(runner, observer=observer, max_inflight=24, max_batch_size=8)
    engine.start()
    engine.wait_ready(30)
    submitted = [engine.submit(task.pixels, policy(thresholds=thresholds)) for task in tasks]
    predictions = [task.future.result(30).prediction for task in submitted]
    engine.stop(drain=True, timeout_s=30)

    exits = [
        next(s for s, limit in enumerate((*thresholds, 0)) if stages[s][row].confidence >= limit) for row in range(24)
    ]
    assert set(exits) == set(range(4))
    assert [prediction.stage for prediction in predictions] == exits
    _assert_close([predictions], [[stages[stage][row] for row, stage in enumerate(exits)]], 1e-5)
    assert observer.macs == sum(sum(runner.stage_macs[: stage + 1]) for stage in exits)
    assert len(runner._pool) == 0


@needs_cuda
def test_run_cuda_equals_cpu(make_tasks):
    _assert_close(_walk_all(_runner(device="cuda"), make_tasks(5)), _walk_all(_runner(), make_tasks(5)), 1e-4)


@needs_cuda
@pytest.mark.parametrize("kind", ["hybrid", "patch"])
def test_run_cuda_graphs_equal_kernels_launched_one_by_one(make_tasks, kind):
    cascade, tasks = randomised(TINY_CONFIGS[kind]), make_tasks(5)
    graphed, launched = (_runner(cascade, device="cuda", cuda_graphs=choice) for choice in (True, False))
    graphed.warm_up()
    _assert_close(_walk_all(graphed, tasks), _walk_all(launched, tasks), 1e-5)


@needs_cuda
def test_warm_up_cuda_records_every_stage_and_bucket(caplog):
    with caplog.at_level(logging.INFO):
        _runner(device="cuda", buckets=(4, 8)).warm_up()
    assert "8 CUDA graphs were recorded" in caplog.messages
