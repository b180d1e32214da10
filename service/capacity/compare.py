"""The engine beside the ways of doing without it, alternating in one run over the same images."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch

from models.cascade import Cascade
from models.config import CascadeConfig
from service.capacity.stage_seconds import matrix_flops, stage_seconds
from service.capacity.walks import Saturated, Walk, held_together, regrouped
from service.capacity.workload import ReplayedExits, Workload
from service.engine.interfaces import Runner
from service.engine.policy import Policy
from service.errors import InvalidParameterError
from service.replica.backend import build_runner, resolve_device
from service.replica.heap import settle_heap
from service.settings import Settings
from weights.store import StoredModel

DEEP_BATCH_SIZE = 32
"""The batch size at which the deepest stage is compared with the machine's matrix rate."""

WAYS = (
    *("cascade", "cascade_without_engine", "cascade_one_by_one", "cascade_held_together"),
    *("static", "static_one_by_one"),
)
"""Names of the ways the images are run, as they appear in the report."""

_MATRIX_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Everything measured once; rounds follow one another, so that each ratio compares neighbours in time.

    Attributes:
        walks: by way of running.
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
    """What was run, and its rounds.

    Attributes:
        data: names of the files the images come from; None for random images with replayed exits.
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

    @property
    def walk_macs(self) -> tuple[int, ...]:
        """MACs of a walk that ends at each stage."""
        return tuple(accumulate(self.stage_macs))


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
    """Run every way once in each of `repeats` rounds, after one round that is thrown away.

    Args:
        batch_sizes: those every stage is timed at alone; `DEEP_BATCH_SIZE` joins them where batches may be so large.
        on_step: told what begins; `steps(repeats)` times.

    Raises:
        InvalidParameterError: a batch size beyond `max_batch_size`.
        SettingsError: the device does not exist here.
    """
    too_large = [size for size in batch_sizes if size > settings.max_batch_size]
    if too_large:
        raise InvalidParameterError(f"a batch of {too_large[0]} is more than the limit of {settings.max_batch_size}")
    sizes = sorted({*batch_sizes, min(DEEP_BATCH_SIZE, settings.max_batch_size)})
    runner: Runner = build_runner(stored, settings)
    if workload.replayed:
        runner = ReplayedExits(runner)
    rounds = []
    with ExitStack() as stack:
        bench = _Bench(workload, runner, build_runner(static_model(stored), settings), settings, stack)
        settle_heap()
        for _ in range(repeats + 1):
            rounds.append(bench.round(sizes, on_step))
    return Comparison(
        model=stored.manifest.name,
        architecture=stored.manifest.architecture,
        stage_macs=runner.stage_macs,
        baseline_macs=runner.baseline_macs,
        thresholds=workload.thresholds,
        data=None if workload.replayed else [path.name for path in data],
        num_images=len(workload.images),
        device=resolve_device(settings.device),
        dtype=settings.dtype,
        max_batch_size=settings.max_batch_size,
        max_inflight=settings.max_inflight,
        rounds=rounds[1:],
    )


def steps(repeats: int) -> int:
    """How often `compare` tells its `on_step`."""
    return (repeats + 1) * (len(WAYS) + 2)


def static_model(stored: StoredModel) -> StoredModel:
    """One plain ViT at the last grid, of the same sizes and embedding, without reuse; its weights are random."""
    plain = stored.manifest.architecture.plain()
    manifest = stored.manifest.model_copy(
        update={"architecture": plain, "thresholds": (), "temperatures": (1.0,), "operating_points": ()}
    )
    return StoredModel(manifest, Cascade(plain).eval(), stored.path)


class _Bench:
    """The runners and engines of both models, kept from round to round."""

    def __init__(
        self, workload: Workload, runner: Runner, static_runner: Runner, settings: Settings, stack: ExitStack
    ) -> None:
        self._workload, self._settings, self._stack = workload, settings, stack
        self._runner, self._static_runner = runner, static_runner
        # Between walks an engine's worker sleeps, and its runner is free for the ways that do without an engine.
        self._engine, self._static_engine = self._engine_of(runner), self._engine_of(static_runner)

    def _engine_of(self, runner: Runner) -> Saturated:
        engine = Saturated(
            runner, max_inflight=self._settings.max_inflight, max_batch_size=self._settings.max_batch_size
        )
        self._stack.callback(engine.close)
        return engine

    def round(self, sizes: Sequence[int], on_step: Callable[[str], None]) -> Round:
        images, policy = self._workload.images, self._workload.policy
        limit, group = self._settings.max_batch_size, self._settings.max_inflight
        plain = Policy(thresholds=(), config_version=1, max_stage=0, top_k=1)
        ways: dict[str, Callable[[], Walk]] = {
            "cascade": lambda: self._engine.walk(images, policy),
            "cascade_without_engine": lambda: regrouped(self._runner, images, policy, limit, group),
            "static": lambda: self._static_engine.walk(images, plain),
            "cascade_held_together": lambda: held_together(self._runner, images, policy, limit),
            "cascade_one_by_one": lambda: held_together(self._runner, images, policy, 1),
            "static_one_by_one": lambda: held_together(self._static_runner, images, plain, 1),
        }
        on_step("stages alone")
        before = {size: stage_seconds(self._runner, images, policy, size) for size in sizes}
        walks = {}
        for name, walk in ways.items():
            on_step(name.replace("_", " "))
            walks[name] = walk()
        on_step("stages alone")
        after = {size: stage_seconds(self._runner, images, policy, size) for size in sizes}
        alone = {size: [a + b for a, b in zip(before[size], after[size], strict=True)] for size in sizes}
        device = resolve_device(self._settings.device)
        return Round(
            walks=walks,
            stage_s={size: [min(times) for times in alone[size]] for size in sizes},
            typical_stage_s={size: [median(times) for times in alone[size]] for size in sizes},
            matrix_flops={name: matrix_flops(device, dtype) for name, dtype in _MATRIX_DTYPES.items()},
        )
