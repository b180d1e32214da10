"""Images with the calibration's exits, and held-out ones."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from engine_fakes import FakeRunner
from images import encode, write_parquet

from service.capacity.workload import ReplayedExits, held_out_workload, replayed_workload
from service.engine.task import Task
from service.errors import InvalidParameterError


@pytest.mark.parametrize("count", [8, 64])
def test_replayed_workload_exits_have_the_calibration_shares(stored, count):
    workload = replayed_workload(stored, count, (0.5, 0.5, 0.5))

    exits = Counter(int(image[0, 0, 0]) for image in workload.images)
    assert exits == {0: count // 2, 1: count // 4, 2: count // 8, 3: count // 8}
    moved = replayed_workload(stored, 16, (2.0, 0.5, 0.5))
    assert {int(image[0, 0, 0]) for image in moved.images} == {1, 2, 3}
    assert moved.thresholds == (2.0, 0.5, 0.5)


def test_replayed_workload_without_a_calibration_table_is_refused(stored):
    with pytest.raises(InvalidParameterError, match="--data"):
        replayed_workload(replace(stored, calibration=None), 8, (0.5, 0.5, 0.5))


def test_replayed_exits_are_sure_from_the_named_stage_on_and_keep_the_class(stored):
    workload = replayed_workload(stored, 8, (0.5, 0.5, 0.5))
    task = Task(task_id=0, pixels=workload.images[0], policy=workload.policy, submitted_at=0.0)
    task.pixels[0, 0, 0] = 2
    inner = FakeRunner()
    runner = ReplayedExits(inner)
    confidences = []
    for stage in range(4):
        (prediction,) = runner.run(stage, [task])
        confidences.append(prediction.confidence)
        assert prediction.indices == (int(task.pixels[1, 0, 0]) + 256 * int(task.pixels[2, 0, 0]),)
        runner.keep([0])

    assert confidences == [0.0, 0.0, 1.0, 1.0]
    runner.release([task])
    assert inner.kept == {}


def test_held_out_workload_takes_images_the_thresholds_have_not_seen(stored, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 28, 28), dtype=np.uint8)
    data = write_parquet(tmp_path / "a.parquet", [encode(image) for image in images], [0, 1] * 20, list("abcde"))
    workload = held_out_workload(stored, [data], 20, (0.5, 0.5, 0.5))

    assert len({image.tobytes() for image in workload.images} & {image.tobytes() for image in images}) == 20
    assert not workload.replayed
    with pytest.raises(InvalidParameterError, match="21 images asked for; 20"):
        held_out_workload(stored, [data], 21, (0.5, 0.5, 0.5))
