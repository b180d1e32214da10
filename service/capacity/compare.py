"""Compares the engine with ways to do without it; the ways alternate in one run over the same images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from models.cascade import Cascade
from models.config import CascadeConfig
from service.capacity.stage_seconds import matrix_flops, stage_seconds
from service.capacity.walks import BatchSizes, Walk, held_together, regrouped, running_engine, saturated
from service.capacity.workload import ReplayedExits, Workload
from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.errors import InvalidParameterError
from service.replica.backend import build_runner, resolve_device
from service.replica.process import settle_heap
from service.settings import Settings
from weights.store import StoredModel

DEEP_BATCH_SIZE = 32
"""The batch size at which the deepest stage is compared with the machine's matrix rate."""

WAYS = {
    "cascade": "this engine",
    "cascade_without_engine": "the same batches without an engine",
    "cascade_one_by_one": "request by request",
    "cascade_held_together": "batches held together",
    "static": "static ViT, this engine",
    "static_one_by_one": "static ViT, one by one",
}
"""The ways to run the images, with their titles in the report."""

_MATRIX_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement of everything. Ratios are taken within a round, between measurements that are close in time.

    Attributes:
        walks: by way.
        stage_s: best seconds of each stage for a batch, before and after the walks, by batch size.
        typical_stage_s: medians of the same.
        matrix_flops: FLOP/s of a large matrix product, by dtype.
    """

    walks: dict[str, Walk]
    stage_s: dict[int, list[float]]
    typical_stage_s: dict[int, list[float]]
    matrix_flops: dict[str, float]


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
    num_images: int
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
    repeats: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run every way once in each of `repeats` rounds, after one round for the warm-up.

    Args:
        batch_sizes: sizes at which every stage is timed alone; `DEEP_BATCH_SIZE` is added, up to the limit.
        on_step: receives what begins; called `steps(repeats)` times.

    Raises:
        InvalidParameterError: a batch size beyond `max_batch_size`.
        SettingsError: the device does not exist here.
    """
    limit, group = settings.max_batch_size, settings.max_inflight
    too_large = [size for size in batch_sizes if size > limit]
    if too_large:
        raise InvalidParameterError(f"a batch of {too_large[0]} is more than the limit of {limit}")
    sizes = sorted({*batch_sizes, min(DEEP_BATCH_SIZE, limit)})
    device = resolve_device(settings.device)
    runner: Runner = build_runner(stored, settings)
    if workload.replayed:
        runner = ReplayedExits(runner)
    static_runner = build_runner(static_model(stored), settings)
    images, policy = workload.images, workload.policy
    plain = Policy(thresholds=(), config_version=1, max_stage=0, top_k=1)

    def engine_walk(runner: Runner, policy: Policy) -> Callable[[], Walk]:
        # Between walks the engine's worker sleeps, and the runner is free for the ways without an engine.
        batches = BatchSizes()
        engine = stack.enter_context(running_engine(runner, batches, max_inflight=group, max_batch_size=limit))
        return lambda: saturated(engine, batches, images, policy, group)

    with ExitStack() as stack:
        ways = {
            "cascade": engine_walk(runner, policy),
            "cascade_without_engine": lambda: regrouped(runner, images, policy, limit, group),
            "static": engine_walk(static_runner, plain),
            "cascade_held_together": lambda: held_together(runner, images, policy, limit),
            "cascade_one_by_one": lambda: held_together(runner, images, policy, 1),
            "static_one_by_one": lambda: held_together(static_runner, images, plain, 1),
        }
        settle_heap()
        rounds = [_round(ways, runner, workload, sizes, device, on_step) for _ in range(repeats + 1)]
    return Comparison(
        model=stored.manifest.name,
        architecture=stored.manifest.architecture,
        stage_macs=runner.stage_macs,
        baseline_macs=runner.baseline_macs,
        thresholds=workload.thresholds,
        data=None if workload.replayed else [path.name for path in data],
        num_images=len(images),
        device=device,
        dtype=settings.dtype,
        max_batch_size=limit,
        max_inflight=group,
        rounds=rounds[1:],
    )


def steps(repeats: int) -> int:
    """How often `compare` calls its `on_step`."""
    return (repeats + 1) * (len(WAYS) + 2)


def static_model(stored: StoredModel) -> StoredModel:
    """A plain ViT at the last grid with the same sizes and embedding, without reuse; its weights are random."""
    plain = stored.manifest.architecture.plain()
    manifest = stored.manifest.model_copy(
        update={"architecture": plain, "thresholds": (), "temperatures": (1.0,), "operating_points": ()}
    )
    return StoredModel(manifest, Cascade(plain).eval(), stored.path)


def _round(
    ways: Mapping[str, Callable[[], Walk]],
    runner: Runner,
    workload: Workload,
    sizes: Sequence[int],
    device: str,
    on_step: Callable[[str], None],
) -> Round:
    def alone() -> dict[int, list[list[float]]]:
        on_step("stages alone")
        return {size: stage_seconds(runner, workload.images, workload.policy, size) for size in sizes}

    before, walks = alone(), {}
    for name, walk in ways.items():
        on_step(name.replace("_", " "))
        walks[name] = walk()
    after = alone()
    times = {size: [a + b for a, b in zip(before[size], after[size], strict=True)] for size in sizes}
    return Round(
        walks=walks,
        stage_s={size: [min(attempts) for attempts in times[size]] for size in sizes},
        typical_stage_s={size: [median(attempts) for attempts in times[size]] for size in sizes},
        matrix_flops={name: matrix_flops(device, dtype) for name, dtype in _MATRIX_DTYPES.items()},
    )
