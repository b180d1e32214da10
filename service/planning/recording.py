"""Measures a machine for a plan: every stage at every batch size, and what HTTP and decoding cost beside them."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count, pairwise

import numpy as np
import torch

from service.backend import build_runner, resolve_device
from service.bench.machine import describe, machine
from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.engine.task import Task
from service.planning.overhead import measure_overhead
from service.planning.recorded import RecordedTimes
from service.settings import Settings
from weights.store import StoredModel

OVERHEAD_STEP = "HTTP and decoding"


def record(
    stored: StoredModel,
    settings: Settings,
    *,
    repeats: int,
    image_sizes: Sequence[str],
    on_step: Callable[[str], None] = lambda _: None,
) -> RecordedTimes:
    """Measure the stages with these settings, then the service with a runner that answers at once.

    Args:
        image_sizes: names of `sample_images.SIZES_PX` to measure HTTP and decoding with; none leaves both out.
        on_step: told what begins; `steps(repeats, image_sizes)` times.

    Raises:
        ServerFailedError: the service did not start.
        SettingsError: the device does not exist here.
    """
    device = resolve_device(settings.device)
    on_step("warm-up")
    runner = build_runner(stored, settings)
    runner.warm_up()
    sizes = batch_sizes(settings.max_batch_size)
    side, rounds = stored.manifest.architecture.image_size, []
    for repeat in range(repeats):
        on_step(f"stages, round {repeat + 1} of {repeats}")
        rounds.append(stage_round(runner, sizes, side))
    overheads = {}
    for name in image_sizes:
        on_step(f"{OVERHEAD_STEP}, {name} images")
        overheads[name] = measure_overhead(settings, name)
    return RecordedTimes(
        model=stored.manifest.name,
        device=device,
        dtype=runner.dtype,
        machine=describe(machine(device)),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        # As `TorchRunner` does by default.
        padded=torch.device(device).type != "cpu",
        sizes=tuple(sizes),
        seconds=_by_stage_and_size(rounds),
        # The same for every image; smaller ones come faster, which is when it matters and when it is least.
        engine_ms=min((each.engine_ms for each in overheads.values()), default=0.0),
        front_end_ms={name: each.front_end_ms for name, each in overheads.items()},
    )


def steps(repeats: int, image_sizes: Sequence[str]) -> int:
    """How often `record` tells its `on_step`."""
    return 1 + repeats + len(image_sizes)


def batch_sizes(max_batch_size: int) -> list[int]:
    """Powers of two up to the limit, and the limit."""
    return [
        *(1 << power for power in range(max_batch_size.bit_length()) if 1 << power < max_batch_size),
        max_batch_size,
    ]


def stage_round(runner: Runner, sizes: Sequence[int], side: int) -> Mapping[tuple[int, int], float]:
    """Seconds of one batch by (stage, size): it runs, and the state for the next stage is kept, as in the engine."""
    last, ids = len(runner.stage_macs) - 1, count()
    pixels = np.random.default_rng(0).integers(0, 256, (max(sizes), 3, side, side), dtype=np.uint8)
    policy = Policy(thresholds=(2.0,) * last, config_version=1, max_stage=last)
    seconds: dict[tuple[int, int], float] = {}
    for size in sizes:
        tasks = [Task(task_id=next(ids), pixels=image, policy=policy, submitted_at=0.0) for image in pixels[:size]]
        ticks = [time.perf_counter()]
        for stage in range(last + 1):
            runner.run(stage, tasks)
            runner.keep(range(size) if stage < last else ())
            ticks.append(time.perf_counter())
        runner.release(tasks)
        seconds |= {(stage, size): end - start for stage, (start, end) in enumerate(pairwise(ticks))}
    return seconds


def _by_stage_and_size(
    rounds: Sequence[Mapping[tuple[int, int], float]],
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    stages, sizes = (sorted(set(keys)) for keys in zip(*rounds[0], strict=True))
    return tuple(tuple(tuple(round(times[stage, size], 7) for times in rounds) for size in sizes) for stage in stages)
