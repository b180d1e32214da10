"""Load on a server: a closed loop over some connections, or an open loop of requests at given times.

Few imports, because it runs in separate processes beside the server.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import uvloop

from benchmarks.http.connection import ClientConnection, HttpReply
from benchmarks.http.payload import AnsweredLabel, Payload, answers, own_s
from benchmarks.http.tally import Tally

_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: dvt\r\n\r\n"
_LIVEZ_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLoad:
    """The load that one process sends.

    Attributes:
        payloads: sent in turn.
        expected: the answer to each image alone, by its number.
        connections: number of open connections; in an open loop the limit.
        rate: requests per second of an open loop; None is a closed loop.
        poisson: whether an open loop has Poisson or regular arrivals.
        warm_up_s: before the measured time.
        seconds: the measured time.
        patience_s: time after `seconds` until a missing answer counts as lost.
        name: prefix of the request ids; different for every process.
        watch_livez: whether to request `/livez` repeatedly.
        start_at: seconds of the monotonic clock, so that processes begin together.
    """

    host: str
    port: int
    payloads: Sequence[Payload]
    expected: Sequence[AnsweredLabel]
    connections: int
    seconds: float
    rate: float | None = None
    poisson: bool = True
    warm_up_s: float = 0.5
    patience_s: float = 30.0
    name: str = "bench-0"
    watch_livez: bool = True
    start_at: float = 0.0


def run_load(load: ProcessLoad) -> Tally:
    """Send the load from this process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive(load))


async def drive(load: ProcessLoad) -> Tally:
    """Send the load from the running event loop."""
    return await _Client(load).run()


class _Client:
    """Uses callbacks: a task for each request would double the client's processor time."""

    def __init__(self, load: ProcessLoad) -> None:
        self._load = load
        self._tally = Tally(seconds=load.seconds)
        self._payloads = cycle(load.payloads)
        self._number = 0
        self._due: deque[float] = deque()  # requests that wait for a connection
        self._under_way = 0
        self._ended = asyncio.Event()
        self._connections: set[ClientConnection] = set()
        self._idle: list[ClientConnection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._from = self._until = 0.0
        self._over = False

    async def run(self) -> Tally:
        load, tally = self._load, self._tally
        await asyncio.sleep(max(0.0, load.start_at - time.monotonic()))
        self._from = time.perf_counter() + load.warm_up_s
        self._until = self._from + load.seconds
        asyncio.get_running_loop().call_later(load.warm_up_s, self._note_cpu)
        watch = asyncio.create_task(self._watch_livez()) if load.watch_livez else None
        if load.rate is None:
            for _ in range(load.connections):
                self._begin(time.perf_counter())
        else:
            await self._begin_at(self._times(load.rate))
        await asyncio.sleep(max(0.0, self._until - time.perf_counter()))
        self._note_cpu()
        if watch is not None:
            watch.cancel()
        while self._under_way:
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), self._until + load.patience_s - time.perf_counter())
            except TimeoutError:
                break
        # A request that still waits for a connection was never sent: the client's limit, not the server's fault.
        tally.unsent += len(self._due)
        tally.lost += self._under_way
        self._over = True
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, *([watch] if watch is not None else []), return_exceptions=True)
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)
        return tally

    def _note_cpu(self) -> None:
        self._tally.client_cpu_s = time.process_time() - self._tally.client_cpu_s

    async def _begin_at(self, times: Iterator[float]) -> None:
        for at in times:
            if (ahead_s := at - time.perf_counter()) > 0:
                await asyncio.sleep(ahead_s)
            self._begin(at)

    def _times(self, rate: float) -> Iterator[float]:
        generator = random.Random(self._load.name)
        at = time.perf_counter()
        while at < self._until:
            yield at
            at += generator.expovariate(rate) if self._load.poisson else 1 / rate

    def _begin(self, intended_at: float) -> None:
        """Send one request as soon as a connection is free; its latency counts from the intended time."""
        if self._under_way == self._load.connections:
            self._due.append(intended_at)
            return
        self._under_way += 1
        if self._load.rate is not None and self._measured(intended_at):
            self._tally.sent_late_s.append(time.perf_counter() - intended_at)
        while self._idle:
            if (connection := self._idle.pop()).usable:
                self._send(connection, intended_at)
                return
            self._connections.discard(connection)
        opening = asyncio.create_task(self._open(intended_at))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, intended_at: float) -> None:
        try:
            connection = await ClientConnection.open(self._load.host, self._load.port)
        except OSError:
            self._lose()
            return
        self._connections.add(connection)
        self._send(connection, intended_at)

    def _send(self, connection: ClientConnection, intended_at: float) -> None:
        self._number += 1
        request_id = f"{self._load.name}-{self._number}"
        payload = next(self._payloads)
        connection.send(payload.request(request_id), partial(self._take, connection, payload, request_id, intended_at))

    def _take(
        self,
        connection: ClientConnection,
        payload: Payload,
        request_id: str,
        intended_at: float,
        reply: HttpReply | ConnectionError,
    ) -> None:
        if self._over:
            return
        if isinstance(reply, ConnectionError):
            self._connections.discard(connection)
            self._lose()
            return
        ended_at = time.perf_counter()
        self._idle.append(connection)
        self._end()
        if self._measured(ended_at):
            self._tally.finish(reply.status, len(payload.images))
        if self._measured(ended_at if self._load.rate is None else intended_at):
            self._tally.took(reply.status, ended_at - intended_at)
            # Only then: under load it is mostly waiting time, and parsing costs this process time.
            if self._load.connections == 1 and reply.status == 200 and (own := own_s(reply)) is not None:
                self._tally.added_s.append(ended_at - intended_at - own)
        self._check(reply, request_id, payload)

    def _lose(self) -> None:
        self._tally.lost += 1
        # A server that is gone must not be asked in a tight loop.
        asyncio.get_running_loop().call_later(_LIVEZ_INTERVAL_S, self._end)

    def _end(self) -> None:
        self._under_way -= 1
        if self._due:
            self._begin(self._due.popleft())
        elif self._load.rate is None and (now := time.perf_counter()) < self._until:
            self._begin(now)
        if not self._under_way:
            self._ended.set()

    def _measured(self, at: float) -> bool:
        return self._from <= at < self._until

    def _check(self, reply: HttpReply, request_id: str, payload: Payload) -> None:
        tally, answered_id = self._tally, request_id
        if reply.status == 429 and b"retry-after" not in reply.headers:
            tally.no_retry_after += 1
        if reply.status == 200:
            try:
                answered_id, found = answers(reply)
            except ValueError:
                found = []
            expected = [self._load.expected[number] for number in payload.images]
            agreeing = sum(seen.agrees(alone) for seen, alone in zip(found, expected, strict=False))
            tally.changed += max(len(found), len(expected)) - agreeing
        tally.crossed += not request_id == answered_id == reply.headers.get(b"x-request-id", b"").decode("latin-1")

    async def _watch_livez(self) -> None:
        connection = None
        try:
            while True:
                started_at = time.perf_counter()
                try:
                    if connection is None or not connection.usable:
                        connection = await ClientConnection.open(self._load.host, self._load.port)
                    reply = await connection.ask(_LIVEZ)
                    if reply.status == 200 and self._measured(started_at):
                        self._tally.livez_s.append(time.perf_counter() - started_at)
                except OSError:
                    self._tally.lost += 1
                await asyncio.sleep(max(0.0, started_at + _LIVEZ_INTERVAL_S - time.perf_counter()))
        finally:
            if connection is not None:
                connection.close()
