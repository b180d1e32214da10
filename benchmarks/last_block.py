"""The gain from computing only the class token in the last block of the last stage.

    python benchmarks/last_block.py [--variant micro_56] [--batch-size 32] [--rounds 11] [--threads 1]

One round runs the last stage for the same batch `--repeats` times each way. The weights are random, in float32, batch
norms folded as in the service. MACs are of the last stage, with the class token alone.
"""

import platform
import statistics
import time
from copy import deepcopy
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from models import VARIANTS, Cascade, ReuseState, StageMacs, stage_macs
from models.stage import Stage

ALL, ONE = "all tokens", "class token"


def cascades(variant: str) -> dict[str, Cascade]:
    """The same cascade twice; with `ALL` the last stage computes every token of its last block."""
    torch.manual_seed(0)
    one = Cascade(VARIANTS[variant]).eval()
    for tensor in one.state_dict().values():
        # Parameters that start at zero would hide differences.
        if tensor.is_floating_point() and not tensor.any():
            tensor.normal_(std=0.1)
    one.fold_batch_norms()
    every = deepcopy(one)
    last = every.stages[-1]
    assert isinstance(last, Stage)
    last.hands_on_tokens = True
    return {ALL: every, ONE: one}


def state_before_last(cascade: Cascade, images: Tensor) -> ReuseState | None:
    """The reuse state that the last stage reads."""
    state = None
    for stage in range(cascade.config.num_stages - 1):
        state = cascade.forward_stage(stage, images, state).state
    return state


def machine() -> str:
    """The processor's name and what runs on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"{name}, {platform.system()}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def heading(variant: str, batch_size: int, macs: StageMacs) -> str:
    """What is measured."""
    return f"last stage of {variant}, {macs.total / 1e6:.1f} M MACs, batch of {batch_size}, float32"


@torch.inference_mode()
def main(
    variant: Annotated[str, typer.Option()] = "micro_56",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    rounds: Annotated[int, typer.Option(min=7)] = 11,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Run both variants in turn and print their times."""
    torch.set_num_threads(threads)
    config, ways = VARIANTS[variant], cascades(variant)
    images = torch.randn(batch_size, 3, config.image_size, config.image_size)
    state, last = state_before_last(ways[ONE], images), config.num_stages - 1
    logits = {way: cascade.forward_stage(last, images, state).logits for way, cascade in ways.items()}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in track(range(rounds), "rounds", transient=True):
        for way in (ALL, ONE) if number % 2 == 0 else (ONE, ALL):
            start = time.perf_counter()
            for _ in range(repeats):
                ways[way].forward_stage(last, images, state)
            times[way].append(1e3 * (time.perf_counter() - start) / repeats)
    table = Table(
        "last block", "median, ms", "fastest-slowest, ms", title=heading(variant, batch_size, stage_macs(config)[-1])
    )
    for way, taken in times.items():
        table.add_row(way, f"{statistics.median(taken):.1f}", f"{min(taken):.1f}-{max(taken):.1f}")
    console = Console()
    console.print(table)
    ratio = statistics.median(times[ALL]) / statistics.median(times[ONE])
    apart = (logits[ALL] - logits[ONE]).abs().max().item()
    console.print(
        f"{ratio:.2f} times faster; logits, of up to {logits[ONE].abs().max():.2f}, differ by at most {apart:.1e}"
    )
    console.print(f"{rounds} rounds; {machine()}")


if __name__ == "__main__":
    typer.run(main)
