"""A model of the authors at full size, with random weights: converted, loaded and run, stage by stage.

    python benchmarks/convert_full_size.py [--variant dvt_deit_small] [--batch-size 1 --batch-size 32] [--repeats 10]

Another process writes a checkpoint in the released layout to a temporary folder, converts it as `dvt convert` does, and
checks that the loaded model has the same tensors. So the reported memory is that of a process that only loads and
runs. Times are medians over the repeats, after one run to warm up.
"""

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models.cascade import Cascade
from models.config import VARIANTS
from weights import load
from weights.conversion.authors import authors_name
from weights.conversion.convert import convert

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Run:
    """Times of one precision and batch size; the process's largest memory until then."""

    dtype: str
    batch_size: int
    stage_ms: list[float]
    peak_mb: float


def prepare(variant: str, folder: Path) -> float:
    """Write and convert a random checkpoint; the seconds the conversion took."""
    original = Cascade(VARIANTS[variant]).state_dict()
    checkpoint = folder / "random.pth.tar"
    torch.save({"model_state_dict": {authors_name(key): value for key, value in original.items()}}, checkpoint)
    started = time.perf_counter()
    convert(checkpoint, folder / variant)
    seconds = time.perf_counter() - started
    for key, value in load(folder / variant).cascade.state_dict().items():
        if not torch.equal(value, original[key]):
            raise ValueError(f"{key} is not what it was before the conversion")
    return seconds


def now(device: torch.device) -> float:
    """Seconds on the clock, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def held_mb() -> float:
    """Resident memory of the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@torch.inference_mode()
def stage_times_ms(cascade: Cascade, images: torch.Tensor, repeats: int, done: Callable[[], None]) -> list[float]:
    """Median time of every stage for one batch, in milliseconds."""
    times: list[list[float]] = [[] for _ in range(cascade.config.num_stages)]
    for repeat in range(repeats + 1):
        state = None
        for stage, collected in enumerate(times):
            started = now(images.device)
            state = cascade.forward_stage(stage, images, state).state
            if repeat > 0:
                collected.append((now(images.device) - started) * 1e3)
        done()
    return [statistics.median(collected) for collected in times]


def main(
    variant: Annotated[str, typer.Option(help="A full-size model of the authors.")] = "dvt_deit_small",
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="1 and 32 when left out.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 and bfloat16 when left out.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 10,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Print load time, memory and the time per stage."""
    console, where = Console(), torch.device(device)
    batch_sizes, dtypes = batch_size or [1, 32], dtype or list(DTYPES)
    runs = []
    with tempfile.TemporaryDirectory() as folder, Progress(console=console, transient=True) as progress:
        steps = progress.add_task("convert", total=2 + len(dtypes) * len(batch_sizes) * (repeats + 1))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            convert_s = pool.submit(prepare, variant, Path(folder)).result()
        progress.update(steps, advance=1, description="load")
        before_mb, started = held_mb(), time.perf_counter()
        cascade = load(Path(folder) / variant).cascade
        load_s, loaded_mb = time.perf_counter() - started, held_mb() - before_mb
        progress.advance(steps)
        config = cascade.config
        for name in dtypes:
            cascade.to(where, DTYPES[name])
            for count in batch_sizes:
                progress.update(steps, description=f"{name}, batch {count}")
                images = torch.randn(count, 3, config.image_size, config.image_size).to(where, DTYPES[name])
                stage_ms = stage_times_ms(cascade, images, repeats, lambda: progress.advance(steps))
                runs.append(Run(name, count, stage_ms, peak_mb()))

    hardware = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    parameters = sum(value.numel() for value in cascade.state_dict().values())
    table = Table("dtype", "batch", title=f"{variant}, {parameters / 1e6:.1f} M parameters, {hardware}")
    for heading in (*(f"{grid}x{grid} ms" for grid in config.grids), "walk ms", "an image ms", "peak MB"):
        table.add_column(heading, justify="right")
    for run in runs:
        walk = sum(run.stage_ms)
        cells = [f"{ms:.1f}" for ms in (*run.stage_ms, walk, walk / run.batch_size)]
        table.add_row(run.dtype, str(run.batch_size), *cells, f"{run.peak_mb:.0f}")
    console.print(table)
    console.print(f"converted in {convert_s:.1f} s, loaded in {load_s:.1f} s, {loaded_mb:.0f} MB in memory")
    if out is not None:
        figures = {"variant": variant, "hardware": hardware, "torch": torch.__version__, "convert_s": convert_s}
        figures |= {"load_s": load_s, "loaded_mb": loaded_mb, "runs": [asdict(run) for run in runs]}
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
