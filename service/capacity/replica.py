"""Simulates one replica under load: its front ends image by image, its engine in batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import fmean

import numpy as np
import numpy.typing as npt

from service.capacity.recorded import RecordedTimes
from service.capacity.simulation import SchedulerSimulation, Seconds, SimulationResult, known_exits
from service.engine.batch_limits import BatchLimits
from service.engine.scheduler import Scheduler
from service.engine.stage_times import StageTimes
from service.engine.warm_up import ENOUGH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLoad:
    """A replica under load at one rate.

    Attributes:
        rate: images per second that arrive.
        p50_ms: median time from the arrival at a front end to the engine's answer; `p99_ms` likewise.
        refused: share of refused images.
        utilisation: share of time in which the engine runs a batch.
        front_end_utilisation: share of the front ends' cores in use; of the engine's core if they share it.
        mean_batch: mean batch size by stage; 0 for a stage without batches.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    refused: float
    utilisation: float
    front_end_utilisation: float
    mean_batch: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedReplica:
    """One engine and its front ends on one machine.

    Attributes:
        exits: the stage each calibration image leaves at, [N].
        front_ends: processes for HTTP and decoding; 0 if the engine's process does both.
        overhead_s: processor time of a front end per image.
    """

    times: RecordedTimes
    exits: npt.NDArray[np.int64]
    max_batch_size: int
    max_inflight: int
    front_ends: int
    overhead_s: float

    @property
    def front_end_cores(self) -> int:
        """Cores for HTTP and decoding, at most one per front end; 0 if they share the engine's core."""
        taken = self.times.threads if self.times.on_cpu else 1
        return max(0, min(self.front_ends, self.times.cores - taken))

    @property
    def exit_shares(self) -> tuple[float, ...]:
        """The share of images that leave at each stage."""
        counts = np.bincount(self.exits, minlength=len(self.times.seconds))
        return tuple((counts / len(self.exits)).tolist())

    @property
    def largest_batches(self) -> tuple[int, ...]:
        """The largest batch of each stage, as the engine's warm-up finds it."""
        largest, sizes = self.max_batch_size, []
        for stage in range(len(self.times.seconds)):
            if self.times.on_cpu:
                warmed = (size for size in self.times.sizes if size < largest)
                largest = next((size for size in warmed if self.times.alone_s(stage, size) >= ENOUGH_S), largest)
            sizes.append(largest)
        return tuple(sizes)

    @property
    def engine_capacity(self) -> float:
        """Images per second of the engine in full batches without pauses."""
        seconds = sum(
            float((self.exits >= stage).mean()) * self.times.alone_s(stage, size) / size
            for stage, size in enumerate(self.largest_batches)
        )
        return 1 / (seconds + self._on_engine_s)

    @property
    def front_end_capacity(self) -> float:
        """Images per second of the front ends; infinite if their time is charged to the engine's core."""
        if self.front_end_cores == 0 or self.overhead_s == 0:
            return math.inf
        return self.front_end_cores / self.overhead_s

    @property
    def capacity(self) -> float:
        """Images per second of the replica."""
        return min(self.engine_capacity, self.front_end_capacity)

    def alone_s(self, share: float) -> float:
        """The quantile `share` of the latency in seconds when each image arrives at an idle replica."""
        walk = np.cumsum([self.times.alone_s(stage, 1) for stage in range(len(self.times.seconds))])
        deepest = int(np.quantile(self.exits, share, method="inverted_cdf"))
        return float(walk[deepest]) + self.overhead_s + self.times.engine_ms / 1000

    def under(self, rate: float, *, images: int, seed: int) -> SimulatedLoad:
        """Simulate Poisson arrivals at this rate, with the same random numbers for every rate."""
        generator = np.random.default_rng(seed)
        exit_of = generator.choice(self.exits, images).tolist()
        arrivals = np.cumsum(generator.exponential(1.0, images) / rate).tolist()
        entries = self._through_front_ends(arrivals)
        stages = len(self.times.seconds)
        limits = BatchLimits(stages, self.max_batch_size)
        for stage, size in enumerate(self.largest_batches):
            limits.cap(stage, size)
        scheduler = Scheduler(stages, limits, StageTimes(stages))
        simulation = SchedulerSimulation(scheduler, known_exits(exit_of), self._seconds(seed), self.max_inflight)
        outcome = simulation.open_loop(entries)
        p50_ms, p99_ms = waits_ms(outcome, arrivals)
        charged = self.front_end_cores or 1
        return SimulatedLoad(
            rate=rate,
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            refused=outcome.refused / images,
            utilisation=outcome.busy_s / outcome.ended_at,
            front_end_utilisation=min(1.0, rate * self.overhead_s / charged),
            mean_batch=tuple(fmean(sizes) if sizes else 0.0 for sizes in outcome.batches),
        )

    @property
    def _on_engine_s(self) -> float:
        return self.times.engine_ms / 1000 + (0.0 if self.front_end_cores else self.overhead_s)

    def _seconds(self, seed: int) -> Seconds:
        drawn, extra_s = self.times.drawn(seed), self._on_engine_s
        return lambda stage, size: drawn(stage, size) + (extra_s * size if stage == 0 else 0.0)

    def _through_front_ends(self, arrivals: Sequence[float]) -> list[float]:
        """The time at which each image reaches the engine; a free front end takes the oldest image."""
        if self.front_end_cores == 0:
            return list(arrivals)
        free_at, entries = [0.0] * self.front_end_cores, []
        for at in arrivals:
            entries.append(max(at, heappop(free_at)) + self.overhead_s)
            heappush(free_at, entries[-1])
        return entries


def waits_ms(outcome: SimulationResult, arrivals: Sequence[float] | None = None) -> tuple[float, float]:
    """Median and 99th percentile of the latency of the middle three fifths of the images.

    Args:
        arrivals: arrival times, if images waited before they reached the engine.
    """
    count = len(outcome.answered)
    middle = outcome.answered[count // 5 : 4 * count // 5]
    waits = [each.ended_at - (arrivals[each.image] if arrivals else each.arrived_at) for each in middle]
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    return float(p50) * 1000, float(p99) * 1000
