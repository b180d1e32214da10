"""A server's metrics, memory and processor time, and the balance of its image counters."""

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.http.connection import ClientConnection
from service.capacity.processor_time import family

Metrics = Sequence[tuple[str, Mapping[str, str], float]]
"""All samples of `/metrics`: name, labels, value."""

_ENDS = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")


async def read_metrics(host: str, port: int) -> Metrics:
    """Fetch a server's metrics."""
    connection = await ClientConnection.open(host, port)
    reply = await connection.ask(b"GET /metrics HTTP/1.1\r\nHost: dvt\r\n\r\n")
    connection.close()
    return parse_metrics(reply.body.decode())


def parse_metrics(text: str) -> Metrics:
    """Prometheus' text format."""
    families = text_string_to_metric_families(text)
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def sum_of(metrics: Metrics, *names: str) -> float:
    """The sum of a metric over all labels."""
    return sum(value for name, _, value in metrics if name in names)


def balance(metrics: Metrics) -> float:
    """Images presented, minus images that were answered, refused, cancelled or failed."""
    return sum_of(metrics, "dvt_images_total") - sum_of(metrics, *_ENDS)


def tree_rss_mb(root: int) -> float:
    """Resident memory of a process and its descendants; shared pages count for each."""
    pages = 0
    for pid in family(root):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * resource.getpagesize() / 1e6


def memory(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Change of the resident set over the second half."""
    late = samples[len(samples) // 2 :]
    seconds, rss = (np.array([sample[key] for sample in late]) for key in ("seconds", "rss_mb"))
    slope = np.polyfit(seconds / 60, rss, 1)[0] if len(late) > 1 else 0.0
    growth = slope * (seconds[-1] - seconds[0]) / 60
    return {
        "first_mb": samples[0]["rss_mb"],
        "from_mb": float(rss[0]),
        "to_mb": float(rss[-1]),
        "seconds": float(seconds[-1] - seconds[0]),
        "slope_mb_per_min": float(slope),
        "growth_mb": float(growth),
    }
