"""Warm-up of all stages, and the search for the largest useful batch of each."""

import time
from collections.abc import Sequence

from service.engine.interfaces import Runner
from service.engine.task import Task

Times = list[tuple[int, int, float]]
"""(stage, batch size, seconds)"""

ENOUGH_S = 0.1
"""Batches that take longer than this are not useful: they save little time and make requests wait."""

_BETWEEN_S = 3.0


def run_every_size(runner: Runner, tasks: Sequence[Task], sizes: Sequence[int]) -> Times:
    """Run every stage with every size, as required for recording; `tasks` are as many as the largest size."""
    times: Times = []
    # The largest first, so that the allocator's memory suffices for the others.
    for size in sorted(sizes, reverse=True):
        for stage in range(len(runner.stage_macs)):
            times.append((stage, size, _seconds_of(runner, stage, tasks[:size])))
            runner.keep(range(size) if stage + 1 < len(runner.stage_macs) else ())
        runner.release(tasks[:size])
    return times


def run_growing_sizes(runner: Runner, tasks: Sequence[Task], sizes: Sequence[int]) -> Times:
    """Run each stage with growing sizes until a batch takes `ENOUGH_S`; returns the seconds of each second run.

    A stage stops at the largest size of the stage before. After 3 s only powers of two are run. `tasks` are as many as
    the largest size.
    """
    times: Times = []
    largest, until = len(tasks), time.perf_counter() + _BETWEEN_S
    for stage in range(len(runner.stage_macs)):
        for size in (each for each in sorted(sizes) if each <= largest):
            if size & (size - 1) and size < len(tasks) and time.perf_counter() > until:
                continue
            # The first run includes one-time initialisation.
            _, seconds = (_seconds_of(runner, stage, tasks[:size]) for _ in range(2))
            times.append((stage, size, seconds))
            if seconds >= ENOUGH_S:
                break
        largest = times[-1][1]
        runner.keep(range(largest) if stage + 1 < len(runner.stage_macs) else ())
    runner.release(tasks)
    return times


def _seconds_of(runner: Runner, stage: int, tasks: Sequence[Task]) -> float:
    start = time.perf_counter()
    runner.run(stage, tasks)
    return time.perf_counter() - start
