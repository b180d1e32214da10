from collections.abc import Sequence

import pytest
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, pixels, policy

from service.engine.task import StagePrediction, Task
from service.engine.warm_up import run_every_size, run_growing_sizes

STAGES = len(STAGE_MACS)


class TimedRunner(FakeRunner):
    """Each image takes its stage's seconds on a clock of its own; the first batch of a size ten times that."""

    def __init__(self, clock: FakeClock, seconds: Sequence[float]) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds
        self.seen: list[tuple[int, int]] = []

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        known = (stage, len(tasks)) in self.seen
        self.seen.append((stage, len(tasks)))
        self._clock.now += self._seconds[stage] * len(tasks) * (1 if known else 10)
        return super().run(stage, tasks)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr("service.engine.warm_up.time.perf_counter", clock)
    return clock


def _tasks(count: int) -> list[Task]:
    return [Task(task_id=-1 - row, pixels=pixels(0), policy=policy(), submitted_at=0.0) for row in range(count)]


def _largest(times: Sequence[tuple[int, int, float]]) -> list[int]:
    return [max(size for at, size, _ in times if at == stage) for stage in range(STAGES)]


def test_run_growing_sizes_stage_ends_at_the_first_batch_that_takes_a_tenth_of_a_second(clock):
    runner = TimedRunner(clock, [0.001, 0.01, 0.02, 0.2])
    times = run_growing_sizes(runner, _tasks(64), (1, 2, 4, 8, 16, 32, 64))
    assert _largest(times) == [64, 16, 8, 1]
    assert {(stage, size): seconds for stage, size, seconds in times}[1, 8] == pytest.approx(0.08)


def test_run_growing_sizes_stage_never_takes_more_than_have_walked_there(clock):
    runner = TimedRunner(clock, [0.05, 0.0, 0.0, 0.0])
    times = run_growing_sizes(runner, _tasks(8), (1, 2, 4, 8))
    assert _largest(times) == [2, 2, 2, 2]
    assert runner.kept == {}


def test_run_growing_sizes_slow_start_leaves_sizes_between_powers_of_two_out(clock):
    quick, slow = TimedRunner(clock, [1e-6] * STAGES), TimedRunner(clock, [0.0, 0.04, 0.0, 0.0])
    sizes = (1, 2, 3, 4, 5)
    tasks = _tasks(5)
    assert {size for _, size, _ in run_growing_sizes(quick, tasks, sizes)} == set(sizes)
    clock.now = 0.0
    times = run_growing_sizes(slow, tasks, sizes)
    assert [size for stage, size, _ in times if stage == 1] == [1, 2, 3]
    late = TimedRunner(clock, [0.4, 0.0, 0.0, 0.0])
    assert [size for stage, size, _ in run_growing_sizes(late, tasks, sizes) if stage == 3] == [1]


def test_run_every_size_largest_first_and_nothing_is_kept(clock):
    runner = TimedRunner(clock, [0.001] * STAGES)
    times = run_every_size(runner, _tasks(4), (1, 4))
    assert [(stage, size) for stage, size, _ in times] == [(s, n) for n in (4, 1) for s in range(STAGES)]
    assert runner.kept == {}
