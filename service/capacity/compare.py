"""Runs the same images in several ways, which alternate: this engine, what it replaces, and a static ViT."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from models.cascade import Cascade
from models.config import CascadeConfig
from service.capacity.stage_seconds import stage_seconds
from service.capacity.walks import BatchSizes, Walk, held_together, running_engine, saturated
from service.capacity.workload import ReplayedExits, Workload
from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.errors import InvalidParameterError
from service.replica.backend import build_runner, resolve_device
from service.replica.process import settle_heap
from service.settings import Settings
from weights.store import StoredModel

WAYS = {
    "cascade": "this engine",
    "cascade_one_by_one": "request by request",
    "cascade_held_together": "batches held together",
    "static": "static ViT, this engine",
    "static_one_by_one": "static ViT, one by one",
}
"""The ways to run the images, with their titles in the report."""

_CASCADE_WAYS = ("cascade", "cascade_one_by_one", "cascade_held_together")
_FEWEST_IMAGES = 32
_WARM_UP = dict.fromkeys(WAYS, _FEWEST_IMAGES)
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement of everything. Ratios are taken within a round, between measurements that are close in time.

    Attributes:
        walks: by way. The ways of the cascade run the same images; those of the static ViT may run fewer.
        stage_s: seconds of each stage for a batch, by batch size.
    """

    walks: Mapping[str, Walk]
    stage_s: Mapping[int, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All rounds, and the conditions of the measurement.

    Attributes:
        data: names of the files with the images; None for random images with replayed exits.
    """

    model: str
    architecture: CascadeConfig
    stage_macs: tuple[int, ...]
    baseline_macs: int
    thresholds: tuple[float, ...]
    data: Sequence[str] | None
    device: str
    dtype: str
    max_batch_size: int
    max_inflight: int
    rounds: Sequence[Round]


def compare(
    stored: StoredModel,
    workload: Workload,
    settings: Settings,
    *,
    data: Sequence[Path],
    batch_sizes: Sequence[int],
    seconds: float,
    on_step: Callable[[str, float], None] = lambda what, passed_s: None,
) -> Comparison:
    """Run all ways in rounds for so many seconds, but one round at least, after a short one for the warm-up.

    An interrupt (Ctrl-C) ends the measurement; the rounds that are complete are kept.

    Args:
        batch_sizes: sizes at which every stage is timed alone.
        seconds: time to measure for. Fewer of the images are run if a third of it is not enough for all of them.
        on_step: receives what begins, and the seconds that have been measured for.

    Raises:
        InvalidParameterError: a batch size beyond `max_batch_size`.
        KeyboardInterrupt: interrupted before a round was complete.
        SettingsError: the device does not exist here.
    """
    limit, group = settings.max_batch_size, settings.max_inflight
    if (largest := max(batch_sizes)) > limit:
        raise InvalidParameterError(f"a batch of {largest} is more than the limit of {limit}")
    on_step("start", 0.0)
    runner: Runner = build_runner(stored, settings)
    if workload.replayed:
        runner = ReplayedExits(runner)
    rounds = []
    try:
        for each in _rounds(stored, workload, runner, settings, batch_sizes, seconds, on_step):
            rounds.append(each)
    except KeyboardInterrupt:
        if not rounds:
            raise
    return Comparison(
        model=stored.manifest.name,
        architecture=stored.manifest.architecture,
        stage_macs=runner.stage_macs,
        baseline_macs=runner.baseline_macs,
        thresholds=workload.thresholds,
        data=None if workload.replayed else [path.name for path in data],
        device=resolve_device(settings.device),
        dtype=runner.dtype,
        max_batch_size=limit,
        max_inflight=group,
        rounds=rounds,
    )


def static_model(stored: StoredModel) -> StoredModel:
    """A plain ViT at the last grid with the same sizes and embedding, without reuse; its weights are random."""
    plain = stored.manifest.architecture.plain()
    manifest = stored.manifest.model_copy(
        update={"architecture": plain, "thresholds": (), "temperatures": (1.0,), "operating_points": ()}
    )
    return StoredModel(manifest, Cascade(plain).eval(), stored.path)


def _rounds(
    stored: StoredModel,
    workload: Workload,
    runner: Runner,
    settings: Settings,
    batch_sizes: Sequence[int],
    seconds: float,
    on_step: Callable[[str, float], None],
) -> Iterator[Round]:
    limit, group, policy = settings.max_batch_size, settings.max_inflight, workload.policy
    static_runner = build_runner(static_model(stored), settings)
    plain = Policy(thresholds=(), config_version=1, max_stage=0, top_k=1)

    with ExitStack() as stack:

        def engine_walk(runner: Runner, policy: Policy) -> Callable[[int], Walk]:
            # Between walks the engine's worker sleeps, and the runner is free for the ways without an engine.
            batches = BatchSizes()
            engine = stack.enter_context(running_engine(runner, batches, max_inflight=group, max_batch_size=limit))
            return lambda count: saturated(engine, batches, workload.images[:count], policy, group)

        ways: dict[str, Callable[[int], Walk]] = {
            "cascade": engine_walk(runner, policy),
            "static": engine_walk(static_runner, plain),
            "cascade_held_together": lambda count: held_together(runner, workload.images[:count], policy, limit),
            "cascade_one_by_one": lambda count: held_together(runner, workload.images[:count], policy, 1),
            "static_one_by_one": lambda count: held_together(static_runner, workload.images[:count], plain, 1),
        }
        settle_heap()

        def measured(counts: Mapping[str, int], phase: str) -> Round:
            def begins(what: str) -> None:
                on_step(f"{phase}: {what}", time.monotonic() - started)

            begins("stages alone")
            stage_s = {size: stage_seconds(runner, workload.images, size) for size in batch_sizes}
            walks = {}
            for name, walk in ways.items():
                begins(WAYS[name])
                walks[name] = walk(counts[name])
            return Round(walks=walks, stage_s=stage_s)

        started = time.monotonic()
        counts = affordable_counts(measured(_WARM_UP, "warm-up"), len(workload.images), seconds / _ROUNDS)
        started, number = time.monotonic(), 0
        while number == 0 or time.monotonic() < started + seconds:
            number += 1
            yield measured(counts, f"round {number}")


def affordable_counts(warm_up: Round, num_images: int, seconds: float) -> dict[str, int]:
    """How many images each way can run in its share of a round's seconds; the same for all ways of the cascade."""
    share_s = (seconds - sum(sum(each) for each in warm_up.stage_s.values())) / len(WAYS)
    counts = {
        name: min(num_images, max(_FEWEST_IMAGES, int(share_s * walk.images / walk.seconds)))
        for name, walk in warm_up.walks.items()
    }
    fewest = min(counts[name] for name in _CASCADE_WAYS)
    return counts | dict.fromkeys(_CASCADE_WAYS, fewest)
