"""Times each stage alone."""

import time
from collections.abc import Sequence
from itertools import cycle, islice, pairwise

from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.engine.task import Pixels, Task

_POLICY = Policy(thresholds=(), config_version=1, max_stage=0)


def stage_seconds(runner: Runner, images: Sequence[Pixels], batch_size: int) -> list[float]:
    """Run one batch of this size through all stages; none of its rows leaves early.

    Returns:
        Seconds by stage, from pixels or reuse state to confidences on the host and the stored state of the next stage.
    """
    rows = enumerate(islice(cycle(images), batch_size))
    tasks = [Task(task_id=row, pixels=pixels, policy=_POLICY, submitted_at=0.0) for row, pixels in rows]
    last = len(runner.stage_macs) - 1
    ticks = [time.perf_counter()]
    for stage in range(last + 1):
        runner.run(stage, tasks)
        runner.keep(range(batch_size) if stage < last else ())
        ticks.append(time.perf_counter())
    runner.release(tasks)
    return [end - start for start, end in pairwise(ticks)]
