"""The measurement as JSON and as tables."""

import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.http.measure import PACED_PAUSE_S, Measured, MeasurementPlan, Referred, ServerUnderTest
from benchmarks.http.tally import Tally
from service.capacity.sample_images import SIZES_PX
from service.capacity.spread import Spread

_COUNTS = ("lost", "crossed", "changed", "no_retry_after")
_HTTP_RATIOS = {
    "many_over_in_process": "most images a request, images/s / decode + engine in one process",
    "single_over_instant": "one image a request, requests/s / the same route with an instant runner",
    "alone_minus_loop_ms": "one connection, p50 - (decode + compute in a loop), ms",
    "alone_added_ms": "one connection, p50 of what a request takes beyond its own decode + compute, ms",
    "alone_minus_paced_loop_ms": "one connection, p50 - (the same loop, paced), ms",
}


def report(
    plan: MeasurementPlan,
    size: str,
    jpegs: Sequence[bytes],
    targets: Mapping[str, ServerUnderTest],
    measured: Mapping[str, Measured],
    referred: Referred,
) -> dict[str, Any]:
    """The whole measurement as JSON data; a spread is `{median, min, max}` over the rounds."""
    return {
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "plan": asdict(plan),
        "image": {"size": size, "px": SIZES_PX[size], "mean_bytes": mean(map(len, jpegs)), "distinct": len(jpegs)},
        "servers": {
            name: {
                "info": targets[name].info,
                "closed": [{"images_per_request": n, **_rounds(tallies)} for n, tallies in each.closed.items()],
                "alone": _rounds(each.alone),
                "open": _open(each),
                "ratios": _ratios(each, referred),
            }
            for name, each in measured.items()
        },
        "references": {
            "images_per_s": _spread(referred.images_per_s),
            "loop_p50_ms": _spread([value * 1e3 for value in referred.loop_p50_s]),
            "paced_loop_p50_ms": _spread([value * 1e3 for value in referred.paced_p50_s]),
            "paced_pause_ms": PACED_PAUSE_S * 1e3,
            "instant": _rounds(referred.instant) if referred.instant else None,
        },
    }


def faults(figures: dict[str, Any]) -> int:
    """Answers that were lost, crossed, changed, or refused without `Retry-After`, over all loads."""
    loads = []
    for server in figures["servers"].values():
        loads += [*server["closed"], server["alone"], *([server["open"]] if server["open"] else [])]
    return sum(load[name] for load in loads for name in _COUNTS)


def print_report(figures: dict[str, Any], console: Console) -> None:
    """The same figures as tables."""
    image = figures["image"]
    width, height = image["px"]
    plan = figures["plan"]
    title = f"Closed loop, JPEG of {width}x{height} px, {image['mean_bytes'] / 1000:.1f} kB; {plan['repeats']} rounds"
    closed = Table("server", title=title)
    for heading in ("connections", "images", "requests/s", "images/s", "p50 ms", "p90", "p99", "other than 200"):
        closed.add_column(heading, justify="right")
    for name, server in figures["servers"].items():
        loads = [(plan["connections"], load["images_per_request"], load) for load in server["closed"]]
        for connections, images, load in [*loads, (1, 1, server["alone"])]:
            closed.add_row(Text(name), str(connections), str(images), *_closed_cells(load))
    if instant := figures["references"]["instant"]:
        closed.add_row("instant runner", str(plan["connections"]), "1", *_closed_cells(instant))
    console.print(closed)
    _print_open(figures, console)
    _print_references(figures, console)
    total = faults(figures)
    console.print(
        f"lost, crossed or changed answers, or 429 without Retry-After: {total}", style="red" if total else "green"
    )


def _print_open(figures: dict[str, Any], console: Console) -> None:
    servers = {name: server["open"] for name, server in figures["servers"].items() if server["open"]}
    if not servers:
        return
    table = Table("server", title="Open loop, latency from the intended time of sending")
    headings = ("requests/s", "goodput/s", "p50 ms", "p99", "refused/s", "refused p99", "livez p99", "sent late p99")
    for heading in (*headings, "cores: client", "process", "front ends", "faults"):
        table.add_column(heading, justify="right")
    for name, load in servers.items():
        table.add_row(
            Text(name),
            f"{load['rate']:,.0f}",
            f"{load['requests_per_s']:,.0f}",
            *(_number(load[key]) for key in ("p50_ms", "p99_ms")),
            f"{load['refused_per_s']:,.0f}",
            *(_number(load[key]) for key in ("refused_p99_ms", "livez_p99_ms", "sent_late_p99_ms", "client_cores")),
            *(_number(cores) for cores in load["server_cores"] or (None, None)),
            str(sum(load[count] for count in _COUNTS)),
        )
    console.print(table)


def _print_references(figures: dict[str, Any], console: Console) -> None:
    references = figures["references"]
    if references["images_per_s"] is None:
        return
    console.print(
        f"without HTTP: {_read(references['images_per_s']):,.0f} images/s saturated; one after the other p50 "
        f"{_read(references['loop_p50_ms']):.2f} ms, with pauses of {references['paced_pause_ms']:g} ms "
        f"{_read(references['paced_loop_p50_ms']):.2f} ms"
    )
    table = Table("ratio, round by round: median (smallest-largest)")
    for name in figures["servers"]:
        table.add_column(Text(name), justify="right")
    for ratio, title in _HTTP_RATIOS.items():
        values = [server["ratios"][ratio] for server in figures["servers"].values()]
        table.add_row(title, *(f"{_read(value):.3f}" if value else "-" for value in values))
    console.print(table)


def _closed_cells(load: dict[str, Any]) -> list[str]:
    rates = [f"{_read(load[key]):,.0f}" if load[key] else "-" for key in ("requests_per_s", "images_per_s")]
    times = [_number(load[key] and load[key]["median"]) for key in ("p50_ms", "p90_ms", "p99_ms")]
    others = {status: number for status, number in load["statuses"].items() if status != "200"}
    return [*rates, *times, ", ".join(f"{status}: {number}" for status, number in others.items()) or "0"]


def _rounds(tallies: Sequence[Tally]) -> dict[str, Any]:
    """One load over all rounds: spreads of rates and times, sums of counts."""
    reports = [tally.report() for tally in tallies]
    statuses: Counter[str] = Counter()
    for each in reports:
        statuses.update(each["statuses"])
    summed = {name: sum(each[name] for each in reports) for name in (*_COUNTS, "livez_polls")}
    spread = {
        name: _spread([each[name] for each in reports if each[name] is not None])
        for name in reports[0]
        if name not in summed and name not in ("statuses", "seconds")
    }
    return {"seconds": reports[0]["seconds"], **spread, "statuses": dict(sorted(statuses.items())), **summed}


def _open(each: Measured) -> dict[str, Any] | None:
    if each.open is None:
        return None
    return {"rate": each.open_rate, **each.open.report(), "server_cores": each.open_cores}


def _ratios(each: Measured, referred: Referred) -> dict[str, dict[str, float] | None]:
    many = each.closed[max(each.closed)]
    single = each.closed.get(1, [])
    alone_s = [tally.report()["p50_ms"] or float("nan") for tally in each.alone]
    return {
        "many_over_in_process": _paired(
            [tally.images / tally.seconds for tally in many], referred.images_per_s, lambda a, b: a / b
        ),
        "single_over_instant": _paired(
            [tally.answered / tally.seconds for tally in single],
            [tally.answered / tally.seconds for tally in referred.instant],
            lambda a, b: a / b,
        ),
        "alone_added_ms": _spread([p50 for tally in each.alone if (p50 := tally.report()["added_p50_ms"]) is not None]),
        "alone_minus_loop_ms": _paired(alone_s, referred.loop_p50_s, lambda a, b: a - b * 1e3),
        "alone_minus_paced_loop_ms": _paired(alone_s, referred.paced_p50_s, lambda a, b: a - b * 1e3),
    }


def _paired(
    left: Sequence[float], right: Sequence[float], join: Callable[[float, float], float]
) -> dict[str, float] | None:
    return _spread([join(a, b) for a, b in zip(left, right, strict=True)]) if left and right else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return asdict(Spread.of(values)) if values else None


def _read(spread: dict[str, float]) -> Spread:
    return Spread(**spread)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
