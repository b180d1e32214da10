"""Whatever arrives, leaves, fails or runs late: every image ends once, and no promise to it is broken on the way."""

from collections.abc import Sequence

from engine_bench import Bench
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, RecordingObserver, pixels, policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.engine.load import Shedding
from service.engine.policy import ExitReason
from service.engine.task import Task
from service.errors import ClientLeftError, DeadlineExceededError, InferenceError

BAD_TAG = 255
LOWERED = 0.15

_LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_macs": st.integers(1, 15),
        "follows_config": st.booleans(),
        "trace": st.booleans(),
    },
)


class WorkerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pressure = 0.0
        shedding = Shedding(lambda version, thresholds: [(LOWERED,) * 3], lambda: self.pressure)
        self.bench = Bench(FakeRunner(), RecordingObserver(), FakeClock(), shedding)
        self.bench.runner.fault = self._in_a_stage
        self.tasks: list[Task] = []
        self.ran: dict[int, list[int]] = {}
        self.step_s, self.room = 0.1, 16
        self.step_begins = False
        self.leaver = 0
        self.left: set[int] = set()
        self.broken: list[str] = []  # what is raised inside a stage would count as its failure

    @initialize(stage=st.integers(0, 3))
    def one_stage_fails_for_the_bad_image(self, stage: int) -> None:
        self.bad_stage = stage

    @rule(
        exit_stage=st.integers(0, 3),
        count=st.integers(1, 20),
        stages=st.tuples(st.integers(0, 3), st.integers(0, 3)).map(sorted),
        limits=_LIMITS,
        timeout_s=st.none() | st.floats(0.1, 12),
        bad=st.booleans(),
    )
    def arrive(
        self,
        exit_stage: int,
        count: int,
        stages: list[int],
        limits: dict[str, object],
        timeout_s: float | None,
        bad: bool,
    ) -> None:
        rule_ = policy(min_stage=stages[0], max_stage=stages[1], **limits)
        for row in range(count):
            # The bad image is always the same one: many different ones would be a broken stage.
            image = pixels(3, BAD_TAG) if bad and row == 0 else pixels(exit_stage, len(self.tasks) % BAD_TAG)
            self.tasks.append(self.bench.submit(image, rule_, timeout_s))

    @rule(step_s=st.floats(0, 3), room=st.sampled_from([1, 3, 16]), pressure=st.sampled_from([0.0, 1.0]))
    def conditions_change(self, step_s: float, room: int, pressure: float) -> None:
        self.step_s, self.room, self.pressure = step_s, room, pressure

    @rule(row=st.integers(0, 15))
    def someone_leaves_in_the_next_stage(self, row: int) -> None:
        self.leaver = row + 1

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    @precondition(lambda self: self.tasks)
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: object) -> None:
        self._leave(pick.choice(self.tasks))  # type: ignore[attr-defined]

    def _leave(self, task: Task) -> None:
        if not task.future.done():
            self.left.add(task.task_id)
            self.bench.cancel(task)

    @precondition(lambda self: sum(self.bench.worker.queue_depths()) > 0)
    @rule()
    def work(self) -> None:
        self.step_begins = True
        assert self.bench.worker.turn()
        assert self.broken == []
        still_open = sum(not task.future.done() for task in self.tasks)
        # What has come into the inbox meanwhile is that someone left.
        waiting = sum(self.bench.worker.queue_depths()) - self.bench.worker.inbox.qsize()
        assert waiting == still_open, "lost on the way"

    def _in_a_stage(self, stage: int, tasks: Sequence[Task]) -> None:
        end = self.bench.clock.now + self.bench.worker.times.estimate(stage, len(tasks))
        walk_macs = sum(STAGE_MACS[: stage + 1])
        promises = {
            "the batch is empty or too large": 1 <= len(tasks) <= 16,
            "its client has left": not self.step_begins or not any(task.cancelled for task in tasks),
            "it has ended": not any(task.future.done() for task in tasks),
            "beyond max_stage": all(stage <= task.policy.max_stage for task in tasks),
            "beyond max_macs": all(walk_macs <= (task.policy.max_macs or walk_macs) for task in tasks),
            # Later attempts of the same step start when the first has taken its time.
            "cannot finish in time": not self.step_begins
            or all(task.deadline is None or end <= task.deadline for task in tasks),
        }
        self.broken += [promise for promise, kept in promises.items() if not kept]
        self.step_begins = False
        self.bench.clock.now += self.step_s
        if 0 < self.leaver <= len(tasks):
            self._leave(tasks[self.leaver - 1])
            self.leaver = 0
        if len(tasks) > self.room:
            raise MemoryError
        if stage == self.bad_stage and any(task.pixels[1, 0, 0] == BAD_TAG for task in tasks):
            raise RuntimeError("boom")
        for task in tasks:
            self.ran.setdefault(task.task_id, []).append(stage)

    @invariant()
    def every_task_is_open_or_ended_once(self) -> None:
        for task in self.tasks:
            assert task.future.done() == (self.bench.ledger.get(task.task_id) is None)
        ended = sum(task.future.done() for task in self.tasks)
        assert ended == self.bench.observer.num_ended

    @invariant()
    def only_who_waits_for_a_later_stage_holds_state(self) -> None:
        assert all(
            self.bench.ledger.get(task_id) is not None and stage == self.ran[task_id][-1]
            for task_id, stage in self.bench.runner.kept.items()
        )

    def teardown(self) -> None:
        self.step_begins = False
        self.bench.serve()
        assert self.broken == []
        assert self.bench.runner.kept == {}
        assert self.bench.worker.queue_depths() == (0, 0, 0, 0)
        for task in self.tasks:
            assert task.future.done()
            error = task.future.exception(0)
            if error is None:
                assert task.task_id not in self.left, "answered though its client had left"
                self._check_answer(task)
            else:
                assert isinstance(error, ClientLeftError | DeadlineExceededError | InferenceError)
                assert not isinstance(error, ClientLeftError) or task.cancelled
                assert not isinstance(error, DeadlineExceededError) or (
                    task.deadline is not None and task.task_id not in self.ran
                )
                assert not isinstance(error, InferenceError) or (
                    task.pixels[1, 0, 0] == BAD_TAG and f"stage {self.bad_stage} could not" in str(error)
                )

    def _check_answer(self, task: Task) -> None:
        answer, rule_ = task.future.result(0), task.policy
        stage = answer.prediction.stage
        assert self.ran[task.task_id] == list(range(stage + 1)), "a stage was left out or ran twice"
        assert answer.macs == sum(STAGE_MACS[: stage + 1])
        assert [step.stage for step in answer.trace] == (list(range(stage + 1)) if rule_.trace else [])
        assert answer.prediction.indices == (task.pixels[1, 0, 0],), "somebody else's answer"
        sure_from = max(task.pixels[0, 0, 0], rule_.min_stage)
        assert stage <= sure_from, "went on though it was sure"
        sure = stage >= task.pixels[0, 0, 0]
        match answer.reason:
            case ExitReason.CONFIDENT:
                assert sure
                assert stage >= rule_.min_stage
                assert answer.threshold == 0.5
            case ExitReason.LOAD:
                assert not sure or stage < rule_.min_stage
                assert stage >= rule_.min_stage
                assert rule_.follows_config
                assert answer.threshold == LOWERED
            case ExitReason.MAX_STAGE:
                assert stage == rule_.max_stage
            case ExitReason.MAX_MACS:
                assert rule_.max_macs is not None
                assert sum(STAGE_MACS[: stage + 2]) > rule_.max_macs
            case ExitReason.DEADLINE:
                assert task.deadline is not None
            case ExitReason.FINAL:
                assert stage == 3


TestWorkerProperties = WorkerMachine.TestCase
TestWorkerProperties.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
