"""A hundred hostile clients, a few honest ones, and one that requests `/livez`."""

import asyncio
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.http.books import Metrics, balance, read_metrics
from benchmarks.http.connection import ClientConnection
from benchmarks.http.payload import AnsweredLabel, answers, payloads
from service.capacity.child import Child
from service.capacity.sample_images import sample_jpegs
from service.replica.process import child_environment

_SETTLE_S = 20.0
_PROBE_INTERVAL_S = 0.05
_HOSTILE_PAUSE_S = 0.5
_POLL_PAUSE_S = 0.1
_HONEST_IMAGES = 8

_HEAD = b"POST /classify HTTP/1.1\r\nHost: dvt\r\nContent-Type: image/jpeg\r\n"
_JSON_HEAD = _HEAD.replace(b"image/jpeg", b"application/json")
_PARTS_HEAD = _HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=x")
_GET = b"GET /livez HTTP/1.1\r\nHost: dvt\r\n"


def _sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


ABUSES: dict[str, bytes] = {
    "garbage": bytes(range(256)) * 16,
    "two lengths": _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345" + _GET,
    "length and chunks": _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _GET,
    "too large": _HEAD + b"Content-Length: 1000000000000\r\n\r\n" + b"x" * 1_000_000,
    "endless chunks": _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % (b"x" * 65_536) * 640,
    "gzip bomb": _sized(_HEAD + b"Content-Encoding: gzip\r\n", gzip.compress(bytes(20_000_000))),
    "deep JSON": _sized(_JSON_HEAD, b'{"inputs":[' * 20_000),
    "wide JSON": _sized(_JSON_HEAD, b'{"inputs":[' + b'"",' * 50_000 + b'""]}'),
    "many parts": _sized(_PARTS_HEAD, b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n' * 5000),
    "part's headers": _sized(_PARTS_HEAD, b"--x\r\n" + b"X: y\r\n" * 20_000),
    "header flood": _GET + b"X-Flood: y\r\n" * 20_000 + b"\r\n",
    "endless header": _GET + b"X: " + b"y" * 500_000,
    "long target": b"GET /livez?" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "many parameters": _sized(_HEAD.replace(b"/classify", b"/classify?" + b"a=1&" * 1900), b"x"),
    "pipeline": (_GET + b"\r\n") * 2000,
    "leaves": _HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000,
}
"""Attacks that are sent at once; then an answer is read, if there is one, and the connection is closed."""

SLOW: dict[str, bytes] = {
    "silent": b"",
    "slow head": _GET,
    "slow body": _HEAD + b"Content-Length: 1000000\r\n\r\n",
    "slow chunks": _HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
}
"""Attacks that continue byte by byte until the server ends them."""

DEAF = "does not read"
KINDS = (*ABUSES, *(kind for kind in SLOW for _ in range(6)), *[DEAF] * 4)


@dataclass(slots=True)
class HostileRecord:
    """What the clients saw.

    Attributes:
        done: what hostile clients did, by kind.
        statuses: answers honest clients got.
        wrong: honest answers that were not the right one, and probes that were not 200, in words.
        honest_s: seconds from a request to its answer.
        probe_s: the same for `/livez`, every other time on a new connection.
        unaccounted: images that the metrics do not account for after all clients have left.
    """

    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    honest_s: list[float] = field(default_factory=list)
    probe_s: list[float] = field(default_factory=list)
    unaccounted: float = 0.0


async def attack(child: Child, seconds: float, *, hostile: int, honest: int) -> HostileRecord:
    """Run all clients, then wait until every image is accounted for.

    The hostile clients run in a separate process, so that their work does not delay the honest clients.
    """
    tally = HostileRecord()
    truth = await _truth(child)
    arguments = ("-m", __name__, child.host, str(child.port), str(seconds), str(hostile))
    attackers = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=child_environment(), stdout=asyncio.subprocess.PIPE
    )
    assert attackers.stdout is not None
    await attackers.stdout.readline()  # they have begun
    until = time.monotonic() + seconds
    honest_ones = [asyncio.create_task(_honest(child, number, until, truth, tally)) for number in range(honest)]
    await _probe(child, until, tally)
    await asyncio.gather(*honest_ones)
    out, _ = await attackers.communicate()
    tally.done.update(json.loads(out))
    tally.unaccounted = balance(await _closed_books(child))
    return tally


async def be_hostile(child: Child, seconds: float, count: int) -> Counter[str]:
    """Run `count` hostile clients; count the visits of each kind."""
    done: Counter[str] = Counter()
    until = time.monotonic() + seconds
    clients = [_Hostile(child, KINDS[number % len(KINDS)], number, done) for number in range(count)]
    tasks = [asyncio.create_task(_repeat(each.once, until)) for each in clients]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


async def _repeat(once: Callable[[], Awaitable[None]], until: float) -> None:
    while time.monotonic() < until:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            await once()
        await asyncio.sleep(_HOSTILE_PAUSE_S)


class _Hostile:
    def __init__(self, child: Child, kind: str, number: int, done: Counter[str]) -> None:
        self._child, self._kind, self._done = child, kind, done
        self._random = random.Random(number)

    async def once(self) -> None:
        self._done[self._kind] += 1
        reader, writer = await asyncio.open_connection(self._child.host, self._child.port)
        try:
            if self._kind in SLOW:
                await self._trickle(reader, writer)
            elif self._kind == DEAF:
                await self._ask_and_never_read(writer)
            else:
                writer.write(ABUSES[self._kind])
                if self._kind != "leaves":
                    async with asyncio.timeout(5):
                        await reader.read(65_536)
        finally:
            writer.transport.abort()

    async def _trickle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SLOW[self._kind])
        while not reader.at_eof():
            if self._kind != "silent":
                writer.write(b"1\r\nx\r\n" if self._kind == "slow chunks" else b"x")
            # Not `wait_for`, which loses a cancellation now and then (Python 3.11), and the client would never end.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.5, 1.5)):
                    await reader.read(1)

    async def _ask_and_never_read(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not writer.transport.is_closing():
            writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: dvt\r\n\r\n" * 10)
            async with asyncio.timeout(60):
                await writer.drain()
            await asyncio.sleep(_POLL_PAUSE_S)


async def _truth(child: Child) -> list[AnsweredLabel]:
    connection = await ClientConnection.open(child.host, child.port)
    requests = payloads(sample_jpegs("small", _HONEST_IMAGES), 1)
    truth = [answers(await connection.ask(each.request("truth")))[1][0] for each in requests]
    connection.close()
    return truth


async def _honest(child: Child, number: int, until: float, truth: list[AnsweredLabel], tally: HostileRecord) -> None:
    requests = payloads(sample_jpegs("small", _HONEST_IMAGES), 1)
    connection = await ClientConnection.open(child.host, child.port)
    turn = number
    while time.monotonic() < until:
        turn += 1
        which, request_id = turn % _HONEST_IMAGES, f"honest-{number}-{turn}"
        began = time.perf_counter()
        try:
            reply = await connection.ask(requests[which].request(request_id))
        except ConnectionError as error:
            tally.wrong.append(f"lost: {error}")
            connection = await ClientConnection.open(child.host, child.port)
            continue
        tally.honest_s.append(time.perf_counter() - began)
        tally.statuses[reply.status] += 1
        if reply.status != 200:
            tally.wrong.append(f"{reply.status} {reply.body[:200]!r}")
            continue
        whose, seen = answers(reply)
        if whose != request_id or not seen[0].agrees(truth[which]):
            tally.wrong.append(f"{request_id}: {whose} {seen[0]}")
    connection.close()


async def _probe(child: Child, until: float, tally: HostileRecord) -> None:
    kept: ClientConnection | None = None
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            fresh = kept is None
            connection = kept or await ClientConnection.open(child.host, child.port)
            reply = await connection.ask(_GET + b"\r\n")
            tally.probe_s.append(time.perf_counter() - began)
            if reply.status != 200:
                tally.wrong.append(f"/livez: {reply.status}")
            kept = connection if fresh else None
            if not fresh:
                connection.close()
        except OSError as error:
            kept = None
            tally.wrong.append(f"/livez: {error!r}")
        await asyncio.sleep(_PROBE_INTERVAL_S)
    if kept is not None:
        kept.close()


async def _closed_books(child: Child) -> Metrics:
    deadline = time.monotonic() + _SETTLE_S
    while True:
        metrics = await read_metrics(child.host, child.port)
        if balance(metrics) == 0 or time.monotonic() > deadline:
            return metrics
        await asyncio.sleep(_POLL_PAUSE_S)


def main() -> None:
    """The hostile clients' own process: host, port, seconds, count."""
    host, port, seconds, count = sys.argv[1:]
    print(flush=True)
    print(json.dumps(asyncio.run(be_hostile(Child(host, int(port), 0), float(seconds), int(count)))))


if __name__ == "__main__":
    main()
