"""The part of `on_a_gpu.py` that times every stage at every batch size."""

import argparse
import json
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

_NUM_IMAGES = 32
_DTYPE_NAMES = ("float32", "bfloat16")


def part_stages(args: argparse.Namespace) -> None:
    """Time every stage at every batch size, the models of a kind in turn; results are written after every round."""
    from service.capacity.stage_seconds import stage_seconds

    # A CPU may be many times slower in bfloat16.
    dtypes = _DTYPE_NAMES[:1] if args.rehearse else _DTYPE_NAMES
    until, sizes = time.monotonic() + 0.9 * args.seconds, [int(size) for size in args.batch_sizes.split(",")]
    cases = list(product(args.model, dtypes))
    times: dict[tuple[str, str, str, bool, int], list[list[float]]] = {}
    for number, (model, dtype) in enumerate(cases):
        case_until = time.monotonic() + (until - time.monotonic()) / (len(cases) - number)
        images, runners = runners_of(model, dtype, sizes, args.device)
        for done in range(args.rounds):
            if done > 0 and time.monotonic() > case_until:
                break
            for size, ((kind, graphs), runner) in product(sizes, runners.items()):
                seconds = stage_seconds(runner, images, size)
                rounds = times.setdefault((model, kind, dtype, graphs, size), [])
                rounds.append([1e3 * each for each in seconds])
            write_times(times, args.out)
        print(f"{model}, {dtype}: {done + 1} rounds", flush=True)


def runners_of(model: str, dtype: str, sizes: list[int], device: str) -> tuple[list[Any], dict[tuple[str, bool], Any]]:
    """Random images, and warm runners by kind of model and whether they replay CUDA graphs."""
    import torch

    from models import Cascade
    from service.capacity.workload import random_images
    from service.engine.runner import TorchRunner
    from weights import load

    stored = load(model)
    config, preprocessing = stored.manifest.architecture, stored.manifest.preprocessing
    cascades = {"cascade": stored.cascade}
    cascades |= {f"static {grid}x{grid}": Cascade(config.plain(grid)) for grid in config.grids[-2:]}
    runners = {}
    for graphs, (kind, cascade) in product((True, False) if device == "cuda" else (False,), cascades.items()):
        runners[kind, graphs] = TorchRunner(
            cascade,
            mean=preprocessing.mean,
            std=preprocessing.std,
            temperatures=(1.0,) * cascade.config.num_stages,
            max_batch_size=max(sizes),
            capacity=max(sizes),
            device=device,
            dtype=getattr(torch, dtype),
            buckets=sizes,
            cuda_graphs=graphs,
        )
        runners[kind, graphs].warm_up()
    return random_images(_NUM_IMAGES, config.image_size), runners


def write_times(times: dict[tuple[str, str, str, bool, int], list[list[float]]], path: Path) -> None:
    """Write the medians over the rounds."""
    rows = []
    for key, rounds in times.items():
        row = dict(zip(("model", "kind", "dtype", "cuda_graphs", "batch_size"), key, strict=True))
        stage_ms = [round(statistics.median(each), 4) for each in zip(*rounds, strict=True)]
        rows.append({**row, "rounds": len(rounds), "stage_ms": stage_ms})
    path.write_text(json.dumps(rows))
