"""Measures a machine for a plan: every stage at every batch size, and the cost of HTTP and decoding."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np
import torch

from service.capacity.machine import describe, machine
from service.capacity.overhead import measure_overhead
from service.capacity.recorded import RecordedTimes
from service.capacity.stage_seconds import stage_seconds
from service.capacity.walks import BatchSizes, open_loop, running_engine
from service.capacity.workload import ReplayedExits, random_images, replayed_workload
from service.engine.cores import usable_cores
from service.engine.interfaces import Runner
from service.engine.runner import TorchRunner
from service.replica.backend import build_runner, resolve_device
from service.settings import Settings
from weights.store import StoredModel

LOADED_SECONDS = 10.0
LOADED_SHARE = 0.6
"""Share of the capacity: enough load to form batches, and few enough images for the engine to keep up."""

_FEWEST_IMAGES = 200
_NUM_REPLAYED_IMAGES = 512


def record(
    stored: StoredModel,
    settings: Settings,
    *,
    repeats: int,
    image_sizes: Sequence[str],
    on_step: Callable[[str], None] = lambda _: None,
) -> RecordedTimes:
    """Measure the stages with these settings, then the service with a runner that computes nothing.

    Args:
        image_sizes: names of `sample_images.SIZES_PX` to measure HTTP and decoding with; may be empty.
        on_step: receives what begins; called `steps(repeats, image_sizes)` times.

    Raises:
        ServerFailedError: the service did not start.
        SettingsError: the device does not exist here.
    """
    device = resolve_device(settings.device)
    on_step("warm-up")
    runner = build_runner(stored, settings)
    runner.warm_up()
    images, rounds = random_images(max(runner.sizes), stored.manifest.architecture.image_size), []
    for repeat in range(repeats):
        on_step(f"stages alone, round {repeat + 1} of {repeats}")
        rounds.append({size: stage_seconds(runner, images, size) for size in runner.sizes})
    times = alone(stored, runner, rounds, device)
    on_step("stages under load")
    ratios = under_load(stored, runner, settings, times)
    overheads = {}
    for name in image_sizes:
        on_step(f"HTTP and decoding, {name} images")
        overheads[name] = measure_overhead(settings, name)
    return times.model_copy(
        update={
            "ratios": ratios,
            # It is the same for every image. Small images come faster, and so give the most exact value.
            "engine_ms": min((each.engine_ms for each in overheads.values()), default=0.0),
            "front_end_ms": {name: each.front_end_ms for name, each in overheads.items()},
        }
    )


def steps(repeats: int, image_sizes: Sequence[str]) -> int:
    """How often `record` calls its `on_step`."""
    return 2 + repeats + len(image_sizes)


def alone(
    stored: StoredModel, runner: TorchRunner, rounds: Sequence[Mapping[int, Sequence[float]]], device: str
) -> RecordedTimes:
    """The means of the rounds' stage seconds by batch size, and the machine; ratios and overheads are set later."""
    return RecordedTimes(
        model=stored.manifest.name,
        device=device,
        dtype=runner.dtype,
        machine=describe(machine(device)),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        padded=bool(runner.buckets),
        sizes=tuple(sorted(rounds[0])),
        seconds=tuple(
            tuple(round(fmean(times[size][stage] for times in rounds), 7) for size in sorted(rounds[0]))
            for stage in range(len(runner.stage_macs))
        ),
        ratios=(1.0,),
        engine_ms=0.0,
        front_end_ms={},
    )


def under_load(stored: StoredModel, runner: Runner, settings: Settings, times: RecordedTimes) -> tuple[float, ...]:
    """Seconds of batches in an engine under Poisson arrivals, relative to batches alone.

    Batches under load take longer: sizes alternate, caches are cold, other threads hold the interpreter, and a shared
    machine pauses at times.
    """
    workload = replayed_workload(stored, _NUM_REPLAYED_IMAGES, stored.manifest.thresholds)
    full = settings.max_batch_size
    exits = [int(image[0, 0, 0]) for image in workload.images]
    per_image_s = fmean(sum(times.alone_s(stage, full) for stage in range(last + 1)) / full for last in exits)
    gap_s = per_image_s / LOADED_SHARE
    gaps = np.random.default_rng(0).exponential(gap_s, max(_FEWEST_IMAGES, int(LOADED_SECONDS / gap_s)))
    observer = BatchSizes()
    room = settings.max_inflight
    with running_engine(ReplayedExits(runner), observer, max_inflight=room, max_batch_size=full) as engine:
        open_loop(engine, workload.images, workload.policy, np.cumsum(gaps), max_inflight=room)
    return tuple(
        round(took / times.alone_s(stage, size), 3)
        for stage, sizes in observer.sizes.items()
        for size, took in zip(sizes, observer.seconds[stage], strict=True)
    )
