"""A model's default thresholds on unseen images: exits, accuracy, and the executed MACs.

    python benchmarks/operating_point.py DATA.parquet [--model dvt-cifar10] [--images 500] [--thresholds 0.9]

Every image walks through the real engine and runner. The MACs each answer reports are compared with what PyTorch's
FLOP counter sees while the runner runs. The images are the test half of the split that the model was trained with,
so neither its weights nor its thresholds have seen them.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from service.engine.engine import Engine
from service.engine.operating import parse_thresholds
from service.engine.policy import Policy
from service.engine.runner import TorchRunner
from service.engine.task import Answer, StagePrediction, Task
from service.metrics import Metrics
from weights import load
from weights.calibration.held_out import held_out
from weights.data import LabelledImages, load_images
from weights.preprocessing import centre_crop
from weights.store import StoredModel


class CountingRunner(TorchRunner):
    """Counts the FLOPs of every batch with PyTorch's counter."""

    counted_macs = 0

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Run and count."""
        with FlopCounterMode(display=False) as counter:
            predictions = super().run(stage, tasks)
        self.counted_macs += counter.get_total_flops() // 2
        return predictions


def held_out_images(stored: StoredModel, data: Sequence[Path], count: int) -> LabelledImages:
    """The first `count` images of the model's own test split, in a seeded order."""
    images = held_out(stored.manifest, data, load_images(data, stored.manifest.preprocessing)).test
    sample = images.subset(np.random.default_rng(0).permutation(len(images))[:count])
    cropped = centre_crop(torch.from_numpy(sample.images), stored.manifest.preprocessing.crop_px)
    return replace(sample, images=cropped.contiguous().numpy())


def walk(stored: StoredModel, images: LabelledImages, policy: Policy, batch_size: int) -> tuple[list[Answer], int]:
    """Send every image through the engine; the answers, and the MACs counted meanwhile."""
    runner = CountingRunner(
        stored.cascade,
        mean=stored.manifest.preprocessing.mean,
        std=stored.manifest.preprocessing.std,
        temperatures=stored.manifest.temperatures,
        max_batch_size=batch_size,
        capacity=len(images),
    )
    observer = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(runner, observer=observer, max_inflight=len(images), max_batch_size=batch_size)
    engine.start()
    engine.wait_ready(600)
    runner.counted_macs = 0
    with engine.admit(len(images)):
        tasks = [engine.submit(pixels, policy) for pixels in images.images]
        answers = [task.future.result() for task in track(tasks, description="images", transient=True)]
    engine.stop(drain=True, timeout_s=60)
    return answers, runner.counted_macs


def main(
    data: Annotated[list[Path], typer.Argument(help="The data the model was trained from.")],
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    images: Annotated[int, typer.Option(min=1)] = 500,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    thresholds: Annotated[float | None, typer.Option(help="For all exits; the model's own when left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Print exit shares, accuracy and MACs at the model's default operating point."""
    stored = load(model)
    stages = stored.manifest.architecture.num_stages
    chosen = stored.manifest.thresholds if thresholds is None else parse_thresholds(thresholds, stages)
    sample = held_out_images(stored, data, images)
    policy = Policy(thresholds=chosen, config_version=1, max_stage=stages - 1, top_k=1)
    answers, counted = walk(stored, sample, policy, batch_size)

    reported = sum(answer.macs for answer in answers)
    exits = np.asarray([answer.prediction.stage for answer in answers])
    correct = np.asarray([answer.prediction.indices[0] for answer in answers]) == sample.labels
    table = Table("exit", "share", "top-1 there", title=f"{model}, {len(answers)} images, thresholds {chosen}")
    for stage, grid in enumerate(stored.manifest.architecture.grids):
        left = exits == stage
        accuracy = f"{correct[left].mean():.1%}" if left.any() else "-"
        table.add_row(f"{grid}x{grid}", f"{left.mean():.1%}", accuracy)
    console = Console()
    console.print(table)
    figures = {
        "images": len(answers),
        "thresholds": chosen,
        "exit_shares": [float((exits == stage).mean()) for stage in range(stages)],
        "accuracy": float(correct.mean()),
        "mean_macs_reported": reported / len(answers),
        "mean_macs_counted": counted / len(answers),
        "reported_over_counted": reported / counted,
    }
    console.print_json(json.dumps(figures))
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
