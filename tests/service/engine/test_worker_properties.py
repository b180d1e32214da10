"""Whatever arrives, leaves, fails or runs late: every image ends once, and no promise to it is broken on the way."""

from engine_bench import Bench
from engine_fakes import STAGE_MACS, pixels, policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.engine.load import Shedding
from service.engine.policy import ExitReason
from service.errors import ClientLeftError, DeadlineExceededError, InferenceError

BAD_TAG = 255
LOWERED = 0.15
STAGES = st.integers(0, 3)
LIMITS = {"max_macs": st.integers(1, 15), "follows_config": st.booleans(), "trace": st.booleans()}


class WorkerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pressure = 0.0
        self.bench = Bench(Shedding(lambda version, thresholds: [(LOWERED,) * 3], lambda: self.pressure))
        self.bench.runner.fault = self._in_a_stage
        self.tasks, self.ran, self.left = [], {}, set()
        self.step_s, self.room, self.leaver = 0.1, 16, 0
        self.step_begins = False
        self.broken = []  # what is raised inside a stage would count as its failure

    @initialize(stage=STAGES)
    def one_stage_fails_for_the_bad_image(self, stage):
        self.bad_stage = stage

    @rule(
        exit_stage=STAGES,
        count=st.integers(1, 20),
        stages=st.tuples(STAGES, STAGES).map(sorted),
        limits=st.fixed_dictionaries({}, optional=LIMITS),
        timeout_s=st.none() | st.floats(0.1, 12),
        bad=st.booleans(),
    )
    def arrive(self, exit_stage, count, stages, limits, timeout_s, bad):
        rule_ = policy(min_stage=stages[0], max_stage=stages[1], **limits)
        for row in range(count):
            # The bad image is always the same one: many different ones would be a broken stage.
            image = pixels(3, BAD_TAG) if bad and row == 0 else pixels(exit_stage, len(self.tasks) % BAD_TAG)
            self.tasks.append(self.bench.submit(image, rule_, timeout_s))

    @rule(step_s=st.floats(0, 3), room=st.sampled_from([1, 3, 16]), pressure=st.sampled_from([0.0, 1.0]))
    def conditions_change(self, step_s, room, pressure):
        self.step_s, self.room, self.pressure = step_s, room, pressure

    @rule(row=st.integers(0, 15))
    def someone_leaves_in_the_next_stage(self, row):
        self.leaver = row + 1

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds):
        self.bench.clock.now += seconds

    @precondition(lambda self: self.tasks)
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick):
        self._leave(pick.choice(self.tasks))

    def _leave(self, task):
        if not task.future.done():
            self.left.add(task.task_id)
            self.bench.cancel(task)

    @precondition(lambda self: sum(self.bench.worker.queue_depths()) > 0)
    @rule()
    def work(self):
        self.step_begins = True
        assert self.bench.worker.turn()
        assert self.broken == []
        still_open = sum(not task.future.done() for task in self.tasks)
        # What has come into the inbox meanwhile is that someone left.
        waiting = sum(self.bench.worker.queue_depths()) - self.bench.worker.inbox.qsize()
        assert waiting == still_open, "lost on the way"

    def _in_a_stage(self, stage, tasks):
        end = self.bench.clock.now + self.bench.worker.times.estimate(stage, len(tasks))
        walk_macs = sum(STAGE_MACS[: stage + 1])
        promises = {
            "the batch is empty or too large": 1 <= len(tasks) <= 16,
            "its client has left": not self.step_begins or not any(task.cancelled for task in tasks),
            "it has ended": not any(task.future.done() for task in tasks),
            "beyond max_stage": all(stage <= task.policy.max_stage for task in tasks),
            "beyond max_macs": all(walk_macs <= (task.policy.max_macs or walk_macs) for task in tasks),
            # Later attempts of the same step start when the first has taken its time.
            "cannot finish in time": not self.step_begins or all(end <= task.deadline for task in tasks),
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
    def every_task_is_open_or_ended_once(self):
        ended = [task for task in self.tasks if task.future.done()]
        assert len(ended) == self.bench.observer.num_ended == len(self.tasks) - len(self.bench.worker.ledger)

    @invariant()
    def only_who_waits_for_a_later_stage_holds_state(self):
        for task_id, stage in self.bench.runner.kept.items():
            assert not self.tasks[task_id].future.done()
            assert stage == self.ran[task_id][-1]

    def teardown(self):
        self.step_begins = False
        self.bench.serve()
        assert self.broken == []
        assert self.bench.runner.kept == {}
        assert self.bench.worker.queue_depths() == (0, 0, 0, 0)
        for task in self.tasks:
            match task.future.exception(0):
                case None:
                    assert task.task_id not in self.left, "answered though its client had left"
                    self._check_answer(task)
                case ClientLeftError():
                    assert task.cancelled
                case DeadlineExceededError():
                    assert task.deadline < float("inf")
                    assert task.task_id not in self.ran
                case error:
                    assert isinstance(error, InferenceError)
                    assert task.pixels[1, 0, 0] == BAD_TAG
                    assert f"stage {self.bad_stage} could not" in str(error)

    def _check_answer(self, task):
        answer, rule_ = task.future.result(0), task.policy
        stage = answer.prediction.stage
        assert self.ran[task.task_id] == list(range(stage + 1)), "a stage was left out or ran twice"
        assert answer.macs == sum(STAGE_MACS[: stage + 1])
        assert [step.stage for step in answer.trace] == (list(range(stage + 1)) if rule_.trace else [])
        assert answer.prediction.indices == (task.pixels[1, 0, 0],), "somebody else's answer"
        assert stage <= max(task.pixels[0, 0, 0], rule_.min_stage), "went on though it was sure"
        assert answer.threshold == {3: None}.get(stage, LOWERED if answer.reason == ExitReason.LOAD else 0.5)
        sure = stage >= task.pixels[0, 0, 0]
        may_leave = stage >= rule_.min_stage
        assert {
            ExitReason.CONFIDENT: sure and may_leave,
            ExitReason.LOAD: not sure and may_leave and rule_.follows_config,
            ExitReason.MAX_STAGE: stage == rule_.max_stage,
            ExitReason.MAX_MACS: sum(STAGE_MACS[: stage + 2]) > (rule_.max_macs or 16),
            ExitReason.DEADLINE: task.deadline < float("inf"),
            ExitReason.FINAL: stage == 3,
        }[answer.reason]


TestWorkerProperties = WorkerMachine.TestCase
TestWorkerProperties.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
