"""Runs every stage before the first request does, and finds the largest batch that is worth its wait."""

import time
from collections.abc import Sequence

from service.engine.interfaces import Runner
from service.engine.task import Task

Times = list[tuple[int, int, float]]
"""(stage, batch size, seconds)"""

ENOUGH_S = 0.1
"""What a batch saves by being one is a few milliseconds: one that takes longer only makes requests wait."""

_BETWEEN_S = 3.0


def run_every_size(runner: Runner, tasks: Sequence[Task], sizes: Sequence[int]) -> Times:
    """Every stage with every size, as a device needs that records what it runs.

    Args:
        tasks: as many as the largest size.
    """
    times: Times = []
    # The largest first, so that the allocator has what any other needs.
    for size in sorted(sizes, reverse=True):
        for stage in range(len(runner.stage_macs)):
            times.append((stage, size, _seconds_of(runner, stage, tasks[:size])))
            runner.keep(range(size) if stage + 1 < len(runner.stage_macs) else ())
        runner.release(tasks[:size])
    return times


def run_growing_sizes(runner: Runner, tasks: Sequence[Task], sizes: Sequence[int]) -> Times:
    """Each stage with growing sizes until a batch takes `ENOUGH_S`; seconds of the second run of each.

    A stage ends at the largest size of the stage before or sooner. Sizes between the powers of two are left out
    after 3 s.

    Args:
        tasks: as many as the largest size.
    """
    times: Times = []
    largest, until = len(tasks), time.perf_counter() + _BETWEEN_S
    for stage in range(len(runner.stage_macs)):
        for size in (each for each in sorted(sizes) if each <= largest):
            if size & (size - 1) and size < len(tasks) and time.perf_counter() > until:
                continue
            # The first run pays for what later ones find ready.
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
