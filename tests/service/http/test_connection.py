"""Requests on a real connection, to an application that knows nothing of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest
import uvicorn
from waiting import eventually
from wire import Wire, chunked, get, request

from service.http.connection import MIN_BYTES_PER_S, Bounds, Connection

MAX_CONNECTIONS = 10
PATIENCE_S = 30
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


@dataclass
class Echo:
    """Answers each request with the length of its body, `/large` with far more than any buffer holds, `/wait` later."""

    host: str
    port: int
    connections: set[Connection] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    arrived_at: list[float] = field(default_factory=list)
    head_arrived: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope, receive, send):
        self.seen.append(scope["path"])
        self.arrived_at.append(scope["state"]["arrived_at"])
        self.head_arrived.set()
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["path"] == "/wait":
            await asyncio.to_thread(self.may_answer.wait, PATIENCE_S)
        body = bytes(32_000_000) if scope["path"] == "/large" else str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def until_received(self, size: int) -> None:
        """Wait for so many bytes on the only connection."""
        eventually(lambda: [each._received_bytes for each in self.connections] == [size])

    def sweep(self, now: float) -> None:
        """Look at the only connection, and let it be cut."""
        (connection,), swept = self.connections, threading.Event()
        connection.loop.call_soon_threadsafe(connection.sweep, now)
        connection.loop.call_soon_threadsafe(connection.loop.call_later, 0.01, swept.set)
        assert swept.wait(PATIENCE_S)


@pytest.fixture
def server() -> Iterator[Echo]:
    """A server that sweeps only when told to."""
    listener = socket.create_server(("127.0.0.1", 0))
    echo = Echo(*listener.getsockname())
    bounds = Bounds(timeout_s=2, max_connections=MAX_CONNECTIONS, max_unread_bytes=100_000)
    http = partial(Connection, bounds=bounds, on_refusal=lambda status, client: echo.refusals.append(status))
    running = uvicorn.Server(uvicorn.Config(echo, http=http, lifespan="off", log_level="critical"))
    echo.connections = running.server_state.connections
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    yield echo
    running.should_exit = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_request_arrives_with_its_head(server):
    data = request(b"abc")
    with Wire(server) as wire:
        wire.send(data[:-3])
        assert server.head_arrived.wait(PATIENCE_S)
        before_the_body = time.monotonic()
        assert wire.ask(data[-3:]).body == b"3"
    (arrived_at,) = server.arrived_at
    assert arrived_at < before_the_body


def test_request_that_offers_another_protocol_keeps_its_body_and_gets_one_answer(server):
    with Wire(server) as wire:
        wire.send(request(b"GET / HTTP/1.1\r\n\r\n", *UPGRADE), request(b"ab", *UPGRADE), get("/last"))
        assert [wire.answer().body for _ in range(3)] == [b"18", b"2", b"0"]
    assert server.seen == ["/classify", "/classify", "/last"]


def test_request_that_offers_another_protocol_may_come_byte_by_byte_and_in_chunks(server):
    data = request(b"", "Transfer-Encoding: chunked", *UPGRADE) + chunked(b"abc", b"d", b"")
    with Wire(server) as wire:
        for position in range(len(data)):
            wire.send(data[position : position + 1])
        assert wire.answer().body == b"4"
        assert wire.ask(request(b"xy")).body == b"2"


@pytest.mark.parametrize(("version", "header"), [("1.0", "X: y"), ("1.1", "Connection: close")])
def test_request_that_offers_another_protocol_closes_where_it_says_so(server, version, header):
    with Wire(server) as wire:
        assert wire.ask(request(b"abc", *UPGRADE, header, version=version)).body == b"3"
        assert wire.rest() == b""


def test_tunnel_is_refused(server):
    with Wire(server) as wire:
        assert wire.ask(request(b"", "Host: a", method="CONNECT", target="a:443")).status == 400
        assert wire.rest() == b""
    assert server.refusals == [400]


def test_more_connections_than_the_limit_close_the_one_that_is_silent_longest_but_none_that_waits(server):
    with ExitStack() as stack:

        def connected() -> Wire:
            return stack.enter_context(Wire(server))

        waiting = connected().send(get("/wait"))
        eventually(lambda: server.seen == ["/wait"])
        silent = connected().send(request(b"", "Content-Length: 10"))
        eventually(lambda: server.seen == ["/wait", "/classify"])
        others = [connected() for _ in range(MAX_CONNECTIONS - 2)]
        assert [each.ask(get("/")).status for each in [*others, connected()]] == [200] * (MAX_CONNECTIONS - 1)
        assert silent.rest() == b""
        server.may_answer.set()
        assert waiting.answer().body == b"0"
        assert [each.ask(get("/")).status for each in others] == [200] * len(others)


@pytest.mark.parametrize(("size", "is_cut"), [(2 * MIN_BYTES_PER_S - 1, True), (2 * MIN_BYTES_PER_S, False)])
def test_client_that_sends_too_little_of_its_request_over_its_timeout_is_cut(server, size, is_cut):
    data = request(bytes(10_000))
    head, body = data[:-10_000], data[-10_000:]
    with Wire(server) as wire:
        wire.send(head)
        server.until_received(len(head))
        server.sweep(0.0)
        wire.send(body[:size])
        server.until_received(len(head) + size)
        server.sweep(1.99)
        assert not wire.cut(within_s=0)
        server.sweep(2.0)
        if is_cut:
            assert wire.rest() == b""
        else:
            assert wire.ask(body[size:]).body == b"10000"


def test_client_that_only_sends_while_it_has_answers_to_take_is_cut(server):
    sent = [get("/large"), b"GET / HTTP/1.1\r\nX: "]
    with Wire(server, receive_buffer=4096) as wire:
        wire.send(*sent)
        eventually(lambda: [each.transport.unsent_bytes > 0 for each in server.connections] == [True])
        for timeouts in range(15):  # for a while, the system's buffers take more
            server.sweep(2.0 * timeouts)
            if not server.connections:
                return
            sent.append(b"y" * 2 * MIN_BYTES_PER_S)
            wire.send(sent[-1])
            server.until_received(sum(map(len, sent)))
    pytest.fail("it held its connection by sending alone")
