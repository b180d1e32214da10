import pytest
from engine_fakes import STAGE_MACS, FakeClock, FakeRunner, make_task

from service.engine.warm_up import run_every_size, run_growing_sizes

STAGES = len(STAGE_MACS)


class TimedRunner(FakeRunner):
    """Each image takes its stage's seconds on a clock of its own; the first batch of a size ten times that."""

    def __init__(self, clock, seconds):
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def run(self, stage, tasks):
        known = (stage, len(tasks)) in [(at, len(ids)) for at, ids in self.batches]
        self._clock.now += self._seconds[stage] * len(tasks) * (1 if known else 10)
        return super().run(stage, tasks)


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr("service.engine.warm_up.time.perf_counter", clock)
    return clock


def _grow(clock, seconds, sizes):
    """(sizes, seconds) of each stage."""
    runner, start = TimedRunner(clock, seconds), clock.now
    times = run_growing_sizes(runner, [make_task(-1 - row) for row in range(sizes[-1])], sizes)
    assert runner.kept == {}
    assert clock.now > start
    return [{size: took for at, size, took in times if at == stage} for stage in range(STAGES)]


def test_run_growing_sizes_stage_ends_at_the_first_batch_that_takes_a_tenth_of_a_second(clock):
    stages = _grow(clock, [0.001, 0.01, 0.02, 0.2], (1, 2, 4, 8, 16, 32, 64))
    assert [max(times) for times in stages] == [64, 16, 8, 1]
    assert stages[1][8] == pytest.approx(0.08)


def test_run_growing_sizes_stage_never_takes_more_than_have_walked_there(clock):
    assert [max(times) for times in _grow(clock, [0.05, 0.0, 0.0, 0.0], (1, 2, 4, 8))] == [2] * STAGES


# Stage 0 takes 2.6 s or 3.1 s.
@pytest.mark.parametrize(("seconds", "sizes"), [(0.016, [1, 2, 3, 4, 5]), (0.019, [1, 2, 4, 5])])
def test_run_growing_sizes_slow_start_leaves_sizes_between_powers_of_two_out(clock, seconds, sizes):
    assert list(_grow(clock, [seconds, 0.0, 0.0, 0.0], (1, 2, 3, 4, 5))[1]) == sizes


def test_run_every_size_largest_first_and_nothing_is_kept(clock):
    runner = TimedRunner(clock, [0.001] * STAGES)
    times = run_every_size(runner, [make_task(-1 - row) for row in range(4)], (1, 4))
    assert [(stage, size) for stage, size, _ in times] == [(s, n) for n in (4, 1) for s in range(STAGES)]
    assert runner.kept == {}
