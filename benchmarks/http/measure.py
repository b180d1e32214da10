"""Measures servers under load and the same work without HTTP, alternating in one run."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from benchmarks.http.connection import HttpReply
from benchmarks.http.load import ProcessLoad, run_load
from benchmarks.http.payload import AnsweredLabel, Payload, answers, payloads
from benchmarks.http.reference_process import ReferenceProcess
from benchmarks.http.tally import Tally, percentile
from service.capacity.processor_time import cpu_s, family
from service.errors import InvalidParameterError, ServiceError

PACED_PAUSE_S = 0.002
"""Pause of the paced loop between two images: about the time that HTTP work displaces the model from the caches."""

_LEAD_S = 0.2
_REPLY_TIMEOUT_S = 60.0
_OPEN_CONNECTIONS = 768


class AnswerError(ServiceError):
    """A server whose answers cannot be measured."""


@dataclass(frozen=True, slots=True)
class ServerUnderTest:
    """A server to measure, and its answer to every image alone.

    Attributes:
        pid: its process, if known.
    """

    host: str
    port: int
    info: dict[str, Any]
    expected: Sequence[AnsweredLabel]
    pid: int | None = None

    def cpu_s(self) -> tuple[float, float] | None:
        """Processor time so far of its process, and of its descendants (the front ends)."""
        if self.pid is None:
            return None
        return cpu_s([self.pid]), cpu_s(family(self.pid) - {self.pid})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementPlan:
    """What to measure.

    Attributes:
        images_per_request: one closed loop each.
        connections: of the closed loops.
        open_rate: requests per second of the open loop, or `2x` for twice what the closed loop reached; None: none.
        poisson: whether its requests come at random or evenly.
    """

    images_per_request: Sequence[int]
    connections: int
    seconds: float
    repeats: int
    open_rate: str | None
    open_seconds: float
    poisson: bool

    def __post_init__(self) -> None:
        if self.open_rate is None:
            return
        try:
            positive = float(self.open_rate.removesuffix("x")) > 0
        except ValueError:
            positive = False
        if not positive:
            raise InvalidParameterError(f"rate {self.open_rate!r} is neither requests per second nor like 2x")

    def rate(self, capacity: float) -> float:
        """Requests per second of the open loop, given what the closed loop reached."""
        assert self.open_rate is not None
        number = float(self.open_rate.removesuffix("x"))
        return number * capacity if self.open_rate.endswith("x") else number


@dataclass(slots=True)
class Measured:
    """One server's loads, one tally per round.

    Attributes:
        closed: by images per request.
        alone: one connection, one image a request.
        open_cores: cores that the server's process and its front ends were busy on in the open loop.
    """

    closed: dict[int, list[Tally]] = field(default_factory=dict)
    alone: list[Tally] = field(default_factory=list)
    open: Tally | None = None
    open_rate: float | None = None
    open_cores: tuple[float, float] | None = None


@dataclass(slots=True)
class Referred:
    """The same work without HTTP, or without computing; one figure per round.

    Attributes:
        images_per_s: decoded and computed in one process, saturated.
        loop_p50_s: decoding and computing one image after the other.
        paced_p50_s: the same with pauses.
        instant: the service with a runner that answers at once, one image a request.
    """

    images_per_s: list[float] = field(default_factory=list)
    loop_p50_s: list[float] = field(default_factory=list)
    paced_p50_s: list[float] = field(default_factory=list)
    instant: list[Tally] = field(default_factory=list)


class LoadClients:
    """Sends load from separate processes, which stay alive from one load to the next."""

    def __init__(self, pool: ProcessPoolExecutor, processes: int, jpegs: Sequence[bytes]) -> None:
        self._pool, self._processes, self._jpegs = pool, processes, jpegs
        self._made: dict[int, list[Payload]] = {}
        self._loads = 0

    def send(
        self,
        target: ServerUnderTest,
        *,
        images: int,
        connections: int,
        seconds: float,
        rate: float | None = None,
        poisson: bool = True,
    ) -> Tally:
        """One load on one server."""
        if images not in self._made:
            self._made[images] = payloads(self._jpegs, images)
        self._loads += 1
        processes = min(self._processes, connections)
        start_at = time.monotonic() + _LEAD_S
        futures = [
            self._pool.submit(
                run_load,
                ProcessLoad(
                    host=target.host,
                    port=target.port,
                    payloads=self._made[images],
                    expected=target.expected,
                    connections=connections // processes + (index < connections % processes),
                    seconds=seconds,
                    rate=None if rate is None else rate / processes,
                    poisson=poisson,
                    name=f"bench-{self._loads}-{index}",
                    watch_livez=index == 0,
                    start_at=start_at,
                ),
            )
            for index in range(processes)
        ]
        first, *others = (future.result() for future in futures)
        for tally in others:
            first.add(tally)
        return first


@contextmanager
def client(processes: int, jpegs: Sequence[bytes]) -> Iterator[LoadClients]:
    """Processes that send these images, started and ready."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(time.sleep, _LEAD_S) for _ in range(processes)]:
            future.result()
        yield LoadClients(pool, processes, jpegs)


def meet(host: str, port: int, jpegs: Sequence[bytes], pid: int | None = None) -> ServerUnderTest:
    """Ask a server for its description and for its answer to every image alone.

    Args:
        pid: its process, if it runs here.

    Raises:
        AnswerError: it cannot be reached, or does not classify an image.
    """
    connection = HTTPConnection(host, port, timeout=_REPLY_TIMEOUT_S)
    try:
        info = json.loads(_ask(connection, "GET", "/info", None))
        expected = []
        for jpeg in jpegs:
            _, (seen,) = answers(HttpReply(200, {}, _ask(connection, "POST", "/classify", jpeg)))
            expected.append(seen)
    except (OSError, ValueError) as error:
        raise AnswerError(f"http://{host}:{port} cannot be measured: {error}") from error
    finally:
        connection.close()
    return ServerUnderTest(host, port, info, expected, pid)


def _ask(connection: HTTPConnection, method: str, path: str, body: bytes | None) -> bytes:
    connection.request(method, path, body, {"Content-Type": "image/jpeg"} if body else {})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise ValueError(f"{path} answered {response.status}: {text[:200].decode(errors='replace')}")
    return text


def measure(
    sender: LoadClients,
    targets: Mapping[str, ServerUnderTest],
    plan: MeasurementPlan,
    *,
    reference: ReferenceProcess | None = None,
    instant: ServerUnderTest | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Measured], Referred]:
    """All closed loops in alternating rounds, each beside its reference; then the open loops, one a server.

    Args:
        on_step: receives what begins; called `steps(…)` times.

    Raises:
        AnswerError: the open loop's rate is a multiple, and no closed loop was measured.
    """
    measured = {name: Measured() for name in targets}
    referred = Referred()
    for _ in range(plan.repeats):
        for name, target in targets.items():
            for images in plan.images_per_request:
                on_step(f"{name}: {plan.connections} connections, images a request: {images}")
                tally = sender.send(target, images=images, connections=plan.connections, seconds=plan.seconds)
                measured[name].closed.setdefault(images, []).append(tally)
            on_step(f"{name}: one connection")
            measured[name].alone.append(sender.send(target, images=1, connections=1, seconds=plan.seconds))
        on_step("references")
        if reference is not None:
            referred.images_per_s.append(reference.images_per_s(plan.seconds))
            referred.loop_p50_s.append(percentile(reference.latencies_s(plan.seconds / 2, 0.0), 0.5))
            referred.paced_p50_s.append(percentile(reference.latencies_s(plan.seconds / 2, PACED_PAUSE_S), 0.5))
        if instant is not None:
            referred.instant.append(sender.send(instant, images=1, connections=plan.connections, seconds=plan.seconds))
    if plan.open_rate is not None:
        images = plan.images_per_request[0]
        for name, target in targets.items():
            of_target = measured[name]
            capacity = [tally.answered / tally.seconds for tally in of_target.closed[images]]
            of_target.open_rate = plan.rate(percentile(capacity, 0.5))
            if not of_target.open_rate:
                raise AnswerError(f"{name} answered nothing in the closed loop: no rate follows from that")
            on_step(f"{name}: {of_target.open_rate:.0f} requests/s")
            before, began_at = target.cpu_s(), time.monotonic()
            of_target.open = sender.send(
                target,
                images=images,
                connections=_OPEN_CONNECTIONS,
                seconds=plan.open_seconds,
                rate=of_target.open_rate,
                poisson=plan.poisson,
            )
            if before is not None and (after := target.cpu_s()) is not None:
                took_s = time.monotonic() - began_at
                of_target.open_cores = (after[0] - before[0]) / took_s, (after[1] - before[1]) / took_s
    return measured, referred


def steps(plan: MeasurementPlan, servers: int) -> int:
    """How often `measure` tells its `on_step`."""
    rounds = plan.repeats * (servers * (len(plan.images_per_request) + 1) + 1)
    return rounds + (servers if plan.open_rate is not None else 0)
