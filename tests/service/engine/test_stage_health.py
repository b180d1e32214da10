import pytest
from engine_fakes import pixels, policy

from service.engine.stage_health import StageBrokenError, StageHealth
from service.engine.task import Task


def _tasks(*tags: int) -> list[Task]:
    return [Task(task_id=tag, pixels=pixels(0, tag), policy=policy(), submitted_at=0.0) for tag in tags]


def test_failed_three_batches_in_a_row_raises() -> None:
    health = StageHealth(2)
    health.failed(1, _tasks(1, 2))
    health.failed(1, _tasks(3))
    with pytest.raises(StageBrokenError, match="stage 1 failed for every image of 3 batches in a row"):
        health.failed(1, _tasks(4))


def test_failed_a_success_in_between_starts_anew() -> None:
    health = StageHealth(1)
    for tag in range(0, 20, 2):
        health.failed(0, _tasks(tag))
        health.failed(0, _tasks(tag + 1))
        health.succeeded(0)


def test_failed_success_of_another_stage_does_not_help() -> None:
    health = StageHealth(2)
    for tag in (1, 2):
        health.failed(1, _tasks(tag))
        health.succeeded(0)
    with pytest.raises(StageBrokenError):
        health.failed(1, _tasks(3))


def test_failed_one_image_again_and_again_is_that_images_fault() -> None:
    health = StageHealth(1)
    for _ in range(50):
        health.failed(0, _tasks(7))
    health.failed(0, _tasks(8))
    with pytest.raises(StageBrokenError):
        health.failed(0, _tasks(9))
