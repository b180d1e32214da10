"""Decodes damaged copies of the tests' images: each must be decoded or refused.

    python benchmarks/fuzz_images.py [--seconds 600] [--seed 1] [--out found/]

Decodes in a process of its own, so that a crash of a decoder is found too. Case n of a seed is always the same file:
what is found is printed as `seed:n` and kept under --out. Fails when anything was found: an exception that is none of
the documented ones, a crash, or a file that takes longer than --max-s.
"""

import os
import random
import sys
import time
import warnings
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from image_fuzz import damaged, decode  # noqa: E402

from service.images.decoder import ImageDecoder  # noqa: E402
from weights.preprocessing import Preprocessing  # noqa: E402

BATCH = 200


def work(pipe: Connection, seed: int) -> None:
    """Decode the requested batches; names each case before it is decoded, so that a crash can be attributed."""
    warnings.simplefilter("ignore")
    # libtiff writes its errors there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    decoder = ImageDecoder(Preprocessing(resize_px=64, crop_px=56), max_bytes=2**20, max_pixels=4_000_000)
    while True:
        start = pipe.recv()
        for number in range(start, start + BATCH):
            pipe.send(number)
            try:
                outcome = decode(decoder, damaged(seed, number))
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")
            else:
                pipe.send((outcome.status, outcome.small_s, outcome.total_s))
        pipe.send(None)


def main(
    seconds: Annotated[float, typer.Option(min=1)] = 600.0,
    seed: Annotated[int | None, typer.Option(help="Chosen at random when not given.")] = None,
    max_s: Annotated[float, typer.Option(help="Seconds one file may take, on the clock.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the files that were found.")] = None,
) -> None:
    """Fuzz, then report."""
    console = Console()
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    console.print(f"seed {seed}")
    statuses: Counter[int] = Counter()
    found: list[tuple[int, str]] = []
    slowest = {"in place": (0.0, 0), "in all": (0.0, 0)}
    context = get_context("spawn")
    number, ends_at = 0, time.monotonic() + seconds
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("fuzz", total=seconds)
        while time.monotonic() < ends_at:
            pipe, other = context.Pipe()
            process = context.Process(target=work, args=(other, seed), daemon=True)
            process.start()
            other.close()
            try:
                while time.monotonic() < ends_at:
                    pipe.send(number)
                    while True:
                        if not pipe.poll(max_s):
                            raise TimeoutError(f"took longer than {max_s} s")
                        message = pipe.recv()
                        if message is None:
                            break
                        if isinstance(message, int):
                            number = message
                        elif isinstance(message, str):
                            found.append((number, message))
                        else:
                            status, small_s, total_s = message
                            statuses[status] += 1
                            slowest["in place"] = max(slowest["in place"], (small_s, number))
                            slowest["in all"] = max(slowest["in all"], (total_s, number))
                    number += 1
                    progress.update(bar, completed=seconds - (ends_at - time.monotonic()))
            except (EOFError, OSError) as error:
                found.append((number, str(error) if isinstance(error, TimeoutError) else "crashed"))
                number += 1
            process.kill()
            process.join()
    console.print(f"{sum(statuses.values()):,} files, by status: {dict(statuses)}")
    for name, (duration_s, case) in slowest.items():
        console.print(f"slowest {name}: {duration_s * 1000:.1f} ms of CPU, {seed}:{case}")
    for case, what in found:
        console.print(f"FOUND {seed}:{case}: {what}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{seed}-{case}").write_bytes(damaged(seed, case))
    if found:
        raise typer.Exit(1)
    console.print("nothing found")


if __name__ == "__main__":
    typer.run(main)
