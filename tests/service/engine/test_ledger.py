from engine_fakes import RecordingObserver, make_task

from service.engine.ledger import Ledger
from service.engine.policy import ExitReason
from service.engine.task import StagePrediction
from service.errors import ClientLeftError, InferenceError, NotReadyError


def _ledger(observer, num_tasks=1):
    ledger, tasks = Ledger(observer, (1, 3)), [make_task(number) for number in range(num_tasks)]
    for task in tasks:
        task.predictions.append(StagePrediction(stage=0, indices=(1,), probs=(0.8,)))
        ledger.open(task)
    return ledger, tasks


def test_end_task_that_has_ended_changes_and_counts_nothing(observer):
    ledger, (task,) = _ledger(observer)
    ledger.answer(task, ExitReason.CONFIDENT)
    ledger.end(task, InferenceError("late"), "compute")
    ledger.end_all(lambda: NotReadyError("stopped"))
    assert task.future.result(0).macs == 1
    assert observer.counts == {"exited:confident": 1}
    assert ledger.get(task.task_id) is None


def test_answer_future_cancelled_by_its_holder_counts_as_cancelled(observer):
    ledger, (task,) = _ledger(observer)
    assert task.future.cancel()
    ledger.answer(task, ExitReason.CONFIDENT)
    assert observer.counts == {"cancelled:compute": 1}


def test_end_all_observer_raises_every_future_ends_all_the_same():
    class Broken(RecordingObserver):
        def image_cancelled(self, where, count=1):
            raise RuntimeError("no metrics today")

    ledger, tasks = _ledger(Broken(), 3)
    ledger.end_all(lambda: ClientLeftError("gone"))
    assert [type(task.future.exception(0)) for task in tasks] == [ClientLeftError] * 3
