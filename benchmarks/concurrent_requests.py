"""Does an image's answer depend on its neighbours? Every image alone, then all of them at once, on a running server.

    dvt serve &
    python benchmarks/concurrent_requests.py DATA.parquet [--url http://127.0.0.1:8000] [--images 256]

Prints the largest difference of confidence, how many images changed their exit at a threshold, the mean batch size of
each stage from `dvt_batch_size`, and whether later stages ran for exactly the images that escalated.
"""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx
import pyarrow.parquet as pq
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track
from rich.table import Table


async def classify(client: httpx.AsyncClient, image: bytes) -> dict[str, Any]:
    """One image's answer."""
    response = await client.post("/classify", content=image, headers={"Content-Type": "image/jpeg"})
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


async def at_once(url: httpx.URL, images: list[bytes]) -> list[dict[str, Any]]:
    """All images' answers, each request on a connection of its own that is open before the first one is sent.

    Plain sockets: a client library needs more time for 256 requests than the server.
    """
    port = url.port or 80
    streams = [await asyncio.open_connection(url.host, port) for _ in images]
    for (_, writer), image in zip(streams, images, strict=True):
        head = f"POST /classify HTTP/1.1\r\nHost: {url.host}:{port}\r\nContent-Type: image/jpeg\r\n"
        writer.write(f"{head}Content-Length: {len(image)}\r\nConnection: close\r\n\r\n".encode() + image)
    answers = []
    for reader, writer in streams:
        head, body = (await reader.read()).split(b"\r\n\r\n", 1)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"refused: {head.decode()} {body.decode()}")
        answers.append(json.loads(body))
        writer.close()
    return answers


async def batches(client: httpx.AsyncClient) -> dict[str, tuple[float, float]]:
    """Number of batches and images that each stage has run."""
    totals: dict[str, dict[str, float]] = {"count": {}, "sum": {}}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            for kind, values in totals.items():
                if sample.name == f"dvt_batch_size_{kind}":
                    values[sample.labels["stage"]] = sample.value
    return {stage: (count, totals["sum"][stage]) for stage, count in totals["count"].items()}


async def measure(url: str, images: list[bytes]) -> dict[str, Any]:
    """Run both passes and compare."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        alone = [await classify(client, image) for image in track(images, description="alone", transient=True)]
        before = await batches(client)
        together = await at_once(httpx.URL(url), images)
        after = await batches(client)
    same_exit = [(a, b) for a, b in zip(alone, together, strict=True) if a["exit"]["stage"] == b["exit"]["stage"]]
    exits = Counter(answer["exit"]["stage"] for answer in together)
    stages = []
    for stage in sorted(after, key=int):
        count, total = (new - old for new, old in zip(after[stage], before.get(stage, (0, 0)), strict=True))
        reached = sum(number for left_at, number in exits.items() if left_at >= int(stage))
        stages.append({"stage": int(stage), "batches": count, "images_run": total, "images_that_reached_it": reached})
    return {
        "images": len(images),
        "exit_flips": len(images) - len(same_exit),
        "label_changes": sum(a["label"] != b["label"] for a, b in same_exit),
        "largest_confidence_difference": max(abs(a["confidence"] - b["confidence"]) for a, b in same_exit),
        "stages": stages,
    }


def main(
    data: Annotated[Path, typer.Argument(help="A parquet file of images.")],
    url: Annotated[str, typer.Option()] = "http://127.0.0.1:8000",
    images: Annotated[int, typer.Option(min=1)] = 256,
) -> None:
    """Compare the answers alone with the answers in batches."""
    encoded = [value["bytes"] for value in pq.read_table(data, columns=["image"]).column("image")[:images].to_pylist()]
    figures = asyncio.run(measure(url, encoded))
    table = Table("stage", "batches", "mean batch", "images run", "images that reached it")
    for row in figures["stages"]:
        mean = row["images_run"] / row["batches"] if row["batches"] else 0.0
        table.add_row(
            str(row["stage"]),
            f"{row['batches']:.0f}",
            f"{mean:.1f}",
            f"{row['images_run']:.0f}",
            str(row["images_that_reached_it"]),
        )
    console = Console()
    console.print(table)
    console.print_json(json.dumps({key: value for key, value in figures.items() if key != "stages"}))


if __name__ == "__main__":
    typer.run(main)
