import pytest
from engine_fakes import pixels, policy

from service.engine.stage_health import StageBrokenError, StageHealth
from service.engine.task import Task


def _failed(health: StageHealth, stage: int, *tags: int) -> None:
    tasks = [Task(task_id=tag, pixels=pixels(0, tag), policy=policy(), submitted_at=0.0) for tag in tags]
    health.failed(stage, tasks)


def test_failed_three_batches_of_a_stage_in_a_row_raises_whatever_others_do() -> None:
    health = StageHealth(2)
    _failed(health, 1, 1, 2)
    _failed(health, 1, 3)
    health.succeeded(0)
    with pytest.raises(StageBrokenError, match="stage 1 failed for every image of 3 batches in a row"):
        _failed(health, 1, 4)


def test_failed_a_success_in_between_starts_anew() -> None:
    health = StageHealth(1)
    for tag in range(0, 20, 2):
        _failed(health, 0, tag)
        _failed(health, 0, tag + 1)
        health.succeeded(0)


def test_failed_one_image_again_and_again_is_that_images_fault() -> None:
    health = StageHealth(1)
    for _ in range(50):
        _failed(health, 0, 7)
    _failed(health, 0, 8)
    with pytest.raises(StageBrokenError):
        _failed(health, 0, 9)
