"""Times of stages alone, and the machine's rate of matrix products."""

import time
from collections.abc import Sequence
from itertools import cycle, islice

import torch

from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.engine.task import Pixels, Task

_ATTEMPTS = 5
MATRIX_SIDES = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices by type of device: large enough for the full rate."""


def stage_seconds(runner: Runner, images: Sequence[Pixels], policy: Policy, batch_size: int) -> list[list[float]]:
    """Time each stage with a batch of this size, from pixels or reuse state to confidences on the host.

    The whole batch runs all stages; each stage runs several times on the same state. The time to store the state for
    the next stage is not included.

    Returns:
        Seconds of every attempt, by stage.
    """
    rows = islice(cycle(images), batch_size)
    tasks = [Task(task_id=row, pixels=pixels, policy=policy, submitted_at=0.0) for row, pixels in enumerate(rows)]
    by_stage = []
    for stage in range(len(runner.stage_macs)):
        if stage > 0:
            runner.keep(range(batch_size))
        times = []
        for _ in range(_ATTEMPTS):
            started = time.perf_counter()
            runner.run(stage, tasks)
            times.append(time.perf_counter() - started)
        by_stage.append(times)
    runner.release(tasks)
    return by_stage


def matrix_flops(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product, two for every multiply-accumulate; the best of several."""
    side = MATRIX_SIDES[torch.device(device).type]
    left, right = (torch.randn(side, side).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_ATTEMPTS):
        _synchronise(device)
        started = time.perf_counter()
        left @ right
        _synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def _synchronise(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
