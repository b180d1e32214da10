"""Checks that unseen images meet a target set through `/config`.

    python benchmarks/targets.py DATA.parquet [--model dvt-cifar10] [--env DVT_DTYPE=float32 …]

For each target: `PATCH /config`, then every image of the test half of the split that the model was trained with goes
to `/classify` of a real server; the result is printed beside `expected`.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.capacity.child import SERVE, served
from weights.data import load_images
from weights.manifest import find, read_manifest
from weights.splitting import draw

TARGETS: tuple[dict[str, float], ...] = (
    {"fraction": 0.12},
    {"fraction": 0.15},
    {"fraction": 0.2},
    {"fraction": 0.26},
    {"accuracy_drop": 0.02},
    {"accuracy_drop": 0.005},
    {"accuracy": 0.88},
)
IMAGES_PER_REQUEST = 16
REQUESTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class LabelledJpegs:
    """Encoded images with their labels."""

    jpegs: list[bytes]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Met:
    """A target with its expected and its realised result; `macs_deviation` is the standard deviation of one image.

    Both results are means of a sample: a difference of a few standard errors is no difference.
    """

    target: dict[str, float]
    thresholds: list[float]
    expected: dict[str, Any]
    accuracy: float
    mean_macs: float
    macs_deviation: float
    exit_shares: list[float]

    @property
    def macs_off(self) -> float:
        """How far the mean MACs are from what was expected, as a fraction of it."""
        return self.mean_macs / float(self.expected["mean_macs"]) - 1

    def standard_errors_off(self, images: int, calibration_images: int) -> tuple[float, float]:
        """How many standard errors mean MACs and accuracy are from what was expected; equal MACs by none."""
        size = (1 / images + 1 / calibration_images) ** 0.5
        share, macs = float(self.expected["accuracy"]), float(self.expected["mean_macs"])
        return (
            (self.mean_macs - macs) / (size * self.macs_deviation) if self.mean_macs != macs else 0.0,
            (self.accuracy - share) / (size * (share * (1 - share)) ** 0.5),
        )


def unseen_images(model: str, data: Path, count: int | None = None) -> LabelledJpegs:
    """The test half of the model's own split, in a seeded order."""
    manifest = read_manifest(find(model))
    drawn = manifest.provenance["split"]
    table = pq.read_table(data)
    labels = np.asarray(table.column("label").to_pylist())
    rows = draw(load_images([data], manifest.preprocessing).images, drawn["holdout"], drawn["seed"]).test
    rows = np.random.default_rng(0).permutation(rows)[:count]
    jpegs = [value["bytes"] for value in table.column("image").take(rows).to_pylist()]
    return LabelledJpegs(jpegs, labels[rows].tolist())


async def realise(url: str, target: dict[str, float], images: LabelledJpegs) -> Met:
    """Set a target, and send every image."""
    starts = range(0, len(images.jpegs), IMAGES_PER_REQUEST)
    slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        document = (await client.patch("/config", json={"target": target})).raise_for_status().json()

        async def send(start: int) -> list[dict[str, Any]]:
            files = [("file", jpeg) for jpeg in images.jpegs[start : start + IMAGES_PER_REQUEST]]
            async with slots:
                response = await client.post("/classify", files=files, params={"top_k": 1})
            answer = response.raise_for_status().json()
            assert answer["config_version"] == document["version"]
            results: list[dict[str, Any]] = answer.get("results", [answer])
            return results

        results = list(chain.from_iterable(await asyncio.gather(*map(send, starts))))
    exits = np.bincount([result["exit"]["stage"] for result in results], minlength=len(document["thresholds"]) + 1)
    macs = np.asarray([result["compute"]["macs"] for result in results])
    return Met(
        target=target,
        thresholds=document["thresholds"],
        expected=document["expected"],
        accuracy=float(np.mean(np.asarray([result["index"] for result in results]) == images.labels)),
        mean_macs=float(macs.mean()),
        macs_deviation=float(macs.std()),
        exit_shares=(exits / len(results)).tolist(),
    )


def report(outcomes: Sequence[Met], images: int, calibration_images: int) -> Table:
    """One row per target."""
    table = Table(title=f"expected of {calibration_images} calibration images, realised on {images} others")
    for column in ("target", "mean MACs", "expected", "off", "st. errors", "top-1", "expected", "st. errors"):
        table.add_column(column, justify="right")
    for met in outcomes:
        [(kind, value)] = met.target.items()
        macs_errors, accuracy_errors = met.standard_errors_off(images, calibration_images)
        table.add_row(
            f"{kind} {value:g}",
            f"{met.mean_macs / 1e6:.2f} M",
            f"{met.expected['mean_macs'] / 1e6:.2f} M",
            f"{met.macs_off:+.1%}",
            f"{macs_errors:+.1f}",
            f"{met.accuracy:.1%}",
            f"{met.expected['accuracy']:.1%}",
            f"{accuracy_errors:+.1f}",
        )
    return table


def main(
    data: Annotated[Path, typer.Argument(help="The data the model was trained from.")],
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    images: Annotated[int | None, typer.Option(min=1, help="All of them when left out.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="A setting of the server, like DVT_DTYPE=bfloat16.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
) -> None:
    """Print the realised and the expected result of each target."""
    sample = unseen_images(model, data, images)
    settings = dict(text.partition("=")[::2] for text in env or [])
    with served(SERVE, {"DVT_MODEL": model, **settings}) as server:
        url = f"http://{server.host}:{server.port}"
        outcomes = [asyncio.run(realise(url, target, sample)) for target in track(TARGETS, "targets", transient=True)]
    calibration_images = read_manifest(find(model)).provenance["split"]["calibration"]
    Console(width=120).print(report(outcomes, len(sample.labels), calibration_images))
    if out is not None:
        out.write_text(json.dumps([asdict(met) for met in outcomes], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
