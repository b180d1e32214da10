"""The effect of padding batches to a few sizes on a CPU: batches of every size, padded and not padded.

    python benchmarks/batch_sizes.py [--rounds 6]

One round runs one batch of every size up to the limit through all stages, in random order, in bfloat16. Each variant
has its own process, because oneDNN caches kernels per process; the processes take turns. The first round, in which
most kernels are compiled, is shown separately.
"""

import multiprocessing
import os
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.http.books import tree_rss_mb
from service.capacity.stage_seconds import stage_seconds
from service.capacity.workload import random_images
from service.engine.runner import TorchRunner
from weights import load

BUCKETS_OF: dict[str, Sequence[int] | None] = {"padded": None, "as they are": ()}
_runner: TorchRunner


def begin(model: str, buckets: Sequence[int] | None, limit: int, threads: int) -> None:
    """Make this process's runner, and warm it up as the service does."""
    global _runner
    torch.set_num_threads(threads)
    stored = load(model)
    _runner = TorchRunner(
        stored.cascade,
        mean=stored.manifest.preprocessing.mean,
        std=stored.manifest.preprocessing.std,
        temperatures=stored.manifest.temperatures,
        max_batch_size=limit,
        capacity=limit,
        dtype=torch.bfloat16,
        buckets=buckets,
    )
    _runner.warm_up()


def every_size(side: int, limit: int, seed: int) -> tuple[list[float], float]:
    """Milliseconds of each stage over all batches, and this process's resident MB after them."""
    images, sizes = random_images(limit, side), random.Random(seed).sample(range(1, limit + 1), limit)
    seconds = [stage_seconds(_runner, images, size) for size in sizes]
    return [1e3 * sum(times) for times in zip(*seconds, strict=True)], tree_rss_mb(os.getpid())


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    rounds: Annotated[int, typer.Option(min=2)] = 6,
    limit: Annotated[int, typer.Option(min=1, help="The largest batch.")] = 64,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Run both variants in turn and print the times of each stage."""
    side = load(model).manifest.architecture.image_size
    spawn = multiprocessing.get_context("spawn")
    pools = {
        way: ProcessPoolExecutor(1, mp_context=spawn, initializer=begin, initargs=(model, buckets, limit, threads))
        for way, buckets in BUCKETS_OF.items()
    }
    results: dict[str, list[tuple[list[float], float]]] = {way: [] for way in BUCKETS_OF}
    for seed in track(range(rounds), "rounds", transient=True):
        for way, pool in pools.items():
            results[way].append(pool.submit(every_size, side, limit, seed).result())
    table = Table("batches", title=f"{model}, one batch of every size from 1 to {limit}, {rounds - 1} rounds")
    for heading in (*(f"stage {stage}, ms" for stage in range(len(results["padded"][0][0]))), "first round, ms", "MB"):
        table.add_column(heading, justify="right")
    for way, figures in results.items():
        stages = zip(*(stage_ms for stage_ms, _ in figures[1:]), strict=True)
        cells = [f"{statistics.median(times):,.0f} ({min(times):,.0f}-{max(times):,.0f})" for times in stages]
        table.add_row(way, *cells, f"{sum(figures[0][0]):,.0f}", f"{figures[-1][1]:,.0f}")
    Console().print(table)
    for pool in pools.values():
        pool.shutdown()


if __name__ == "__main__":
    typer.run(main)
