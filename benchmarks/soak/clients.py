"""All kinds of clients at once: honest ones, ones with short deadlines, ones that send garbage, ones that leave."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.http.books import Metrics, balance, read_metrics, sum_of, tree_rss_mb
from benchmarks.http.connection import ClientConnection, HttpReply
from benchmarks.http.payload import Payload, payloads
from service.capacity.child import Child
from service.capacity.sample_images import sample_jpegs

CLIENTS = {
    "honest": 24,
    "list_of_eight": 4,
    "corrupt_image": 1,
    "deadline": 2,
    "leaves_mid_body": 2,
    "leaves_waiting": 2,
    "config": 1,
}
"""How many clients of each kind there are."""

_HARMLESS = {200, 429, 503}
_SAMPLE_INTERVAL_S = 2.0
_SETTLE_S = 20.0
_BACK_OFF_S = 0.05
_BAD_PLACE = 3


@dataclass(slots=True)
class SoakRecord:
    """What the clients saw, and samples of the server meanwhile.

    Attributes:
        sent: requests by kind of client.
        statuses: answers by kind and status.
        lost: requests of clients that waited, without an answer.
        crossed: answers with another request's id.
        wrong: unexpected answers, in words.
        full_status: the answer at the end to one request that needs every permit there is; None where no request
            may hold so many images.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    crossed: int = 0
    wrong: list[str] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)
    full_status: int | None = None


async def soak(child: Child, seconds: float, seen: SoakRecord, on_second: Callable[[], None] = lambda: None) -> Metrics:
    """Run all clients; return the server's metrics when every image is accounted for, or after a time limit."""
    await _Clients(child, seen, time.monotonic() + seconds).run(on_second)
    deadline = time.monotonic() + _SETTLE_S
    while True:
        metrics = await read_metrics(child.host, child.port)
        if balance(metrics) == 0 or time.monotonic() > deadline:
            break
        await asyncio.sleep(_BACK_OFF_S)
    seen.full_status = await _status_of_all_permits(child)
    return metrics


async def _status_of_all_permits(child: Child) -> int | None:
    connection = await ClientConnection.open(child.host, child.port)
    try:
        reply = await connection.ask(b"GET /config HTTP/1.1\r\nHost: dvt\r\n\r\n")
        limits = json.loads(reply.body)["limits"]
        number: int = limits["max_inflight"]
        if not 1 < number <= limits["max_images_per_request"]:
            return None
        full = payloads(sample_jpegs("small", number), number)[0]
        return (await connection.ask(full.request("soak-full"))).status
    finally:
        connection.close()


class _Clients:
    """All clients of one server; each kind is a method that does one request."""

    def __init__(self, child: Child, seen: SoakRecord, until: float) -> None:
        self.child, self.seen, self.until = child, seen, until
        jpegs = sample_jpegs("small", 16)
        corrupt = jpegs[0][: len(jpegs[0]) // 2]
        self.single = payloads(jpegs, 1)
        self.corrupt = payloads([corrupt], 1)[0]
        self.eight = payloads([*jpegs[:_BAD_PLACE], corrupt, *jpegs[_BAD_PLACE:7]], 8)[0]
        self.hasty = [payloads(jpegs[:1], 1, f"/classify?deadline_ms={ms}")[0] for ms in (0.01, 1, 10, 100, 500)]
        self.random = random.Random(0)
        self.idle: list[ClientConnection] = []

    async def run(self, on_second: Callable[[], None]) -> None:
        """Until the time is over."""
        kinds = [getattr(self, kind) for kind, number in CLIENTS.items() for _ in range(number)]
        await asyncio.gather(*(self.repeat(kind) for kind in kinds), self.sample(), self.tell(on_second))
        for connection in self.idle:
            connection.close()

    async def repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self.until:
            self.seen.sent[kind.__name__] += 1
            await kind()

    async def tell(self, on_second: Callable[[], None]) -> None:
        while time.monotonic() < self.until:
            await asyncio.sleep(1)
            on_second()

    async def honest(self) -> None:
        reply = await self.ask(self.random.choice(self.single))
        self.expect("honest", reply, _HARMLESS)

    async def list_of_eight(self) -> None:
        reply = await self.ask(self.eight)
        if self.expect("list", reply, _HARMLESS) and reply is not None and reply.status == 200:
            bad = [place for place, result in enumerate(json.loads(reply.body)["results"]) if "error" in result]
            if bad != [_BAD_PLACE]:
                self.seen.wrong.append(f"list: errors at {bad}")

    async def corrupt_image(self) -> None:
        self.expect("corrupt", await self.ask(self.corrupt), {400, 429, 503})
        await asyncio.sleep(
            _BACK_OFF_S
        )  # a refused image costs nothing, so without a pause this client would crowd out the others

    async def deadline(self) -> None:
        self.expect("deadline", await self.ask(self.random.choice(self.hasty)), {*_HARMLESS, 504})

    async def leaves_mid_body(self) -> None:
        request = self.random.choice(self.single).request("leaver")
        await self.leave(request[: -self.random.randrange(1, 1000)])

    async def leaves_waiting(self) -> None:
        await self.leave(self.random.choice(self.single).request("leaver"))

    async def leave(self, request: bytes) -> None:
        try:
            _, writer = await asyncio.open_connection(self.child.host, self.child.port)
        except OSError:
            self.seen.lost += 1
            return
        writer.write(request)
        await asyncio.sleep(self.random.uniform(0, 0.05))
        writer.transport.abort()

    async def config(self) -> None:
        threshold = round(self.random.uniform(0.3, 1.05), 3)
        body = json.dumps({"thresholds": threshold}).encode()
        head = (
            f"PATCH /config HTTP/1.1\r\nHost: dvt\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self.expect("config", await self.ask(Payload(head.encode() + b"X-Request-ID: ", b"\r\n\r\n" + body, ())), {200})
        await asyncio.sleep(0.5)

    async def ask(self, payload: Payload) -> HttpReply | None:
        """One request on a connection that is kept; None when its answer was lost."""
        request_id = f"soak-{self.random.getrandbits(64):x}"
        try:
            connection = self.idle.pop() if self.idle else None
            if connection is None or not connection.usable:
                connection = await ClientConnection.open(self.child.host, self.child.port)
            reply = await connection.ask(payload.request(request_id))
        except OSError:
            self.seen.lost += 1
            await asyncio.sleep(_BACK_OFF_S)
            return None
        self.idle.append(connection)
        if reply.status == 429:
            # Shorter than `Retry-After`, so that the server stays under load.
            await asyncio.sleep(_BACK_OFF_S)
        self.seen.crossed += reply.headers.get(b"x-request-id") != request_id.encode()
        return reply

    def expect(self, kind: str, reply: HttpReply | None, statuses: set[int]) -> bool:
        if reply is None:
            return False
        self.seen.statuses[f"{kind} {reply.status}"] += 1
        if reply.status not in statuses:
            self.seen.wrong.append(f"{kind}: {reply.status} {reply.body[:200]!r}")
            return False
        return True

    async def sample(self) -> None:
        started = time.monotonic()
        while time.monotonic() < self.until:
            metrics = await read_metrics(self.child.host, self.child.port)
            depth = sum_of(metrics, "dvt_queue_depth")
            self.seen.samples.append(
                {
                    "seconds": round(time.monotonic() - started, 2),
                    "rss_mb": tree_rss_mb(self.child.pid),
                    "images": sum_of(metrics, "dvt_images_total"),
                    "queued": depth,
                }
            )
            await asyncio.sleep(_SAMPLE_INTERVAL_S)
