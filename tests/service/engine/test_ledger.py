from collections import Counter

import pytest
from engine_fakes import RecordingObserver, pixels, policy

from service.engine.ledger import Ledger
from service.engine.policy import ExitReason
from service.engine.task import StagePrediction, Task
from service.errors import ClientLeftError, InferenceError, NotReadyError


def _open_tasks(ledger: Ledger, count: int) -> list[Task]:
    tasks = [Task(task_id=number, pixels=pixels(0), policy=policy(), submitted_at=0.0) for number in range(count)]
    for task in tasks:
        task.predictions.append(StagePrediction(stage=0, indices=(1,), probs=(0.8,)))
        ledger.open(task)
    return tasks


def test_end_task_that_has_ended_changes_and_counts_nothing(observer: RecordingObserver) -> None:
    ledger = Ledger(observer, (1, 3))
    (task,) = _open_tasks(ledger, 1)
    ledger.answer(task, ExitReason.CONFIDENT)
    ledger.fail(task, InferenceError("late"))
    ledger.cancel(task, "queue")
    ledger.end_all(lambda left: ledger.reject(left, NotReadyError("stopped")))
    assert task.future.result(0).macs == 1
    assert observer.counts == Counter({"exited:confident": 1})
    assert ledger.get(task.task_id) is None


def test_answer_future_cancelled_by_its_holder_counts_as_cancelled(observer: RecordingObserver) -> None:
    ledger = Ledger(observer, (1, 3))
    (task,) = _open_tasks(ledger, 1)
    assert task.future.cancel()
    ledger.answer(task, ExitReason.CONFIDENT)
    assert observer.counts == Counter({"cancelled:compute": 1})


def test_end_all_observer_raises_every_future_ends_all_the_same() -> None:
    class Broken(RecordingObserver):
        def image_cancelled(self, where: str, count: int = 1) -> None:
            raise RuntimeError("no metrics today")

    ledger = Ledger(Broken(), (1, 3))
    tasks = _open_tasks(ledger, 3)
    ledger.end_all(lambda task: ledger.cancel(task, "queue"))
    for task in tasks:
        with pytest.raises(ClientLeftError):
            task.future.result(0)
