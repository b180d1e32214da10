"""Requests on a real connection, to an application that knows nothing of it."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import uvicorn
from wire import Wire, chunked, get, request

from service.http.connection import Bounds, Connection, connections

MAX_UNREAD_BYTES = 100_000
_PATIENCE_S = 30


@dataclass
class Echo:
    """Answers each request with the length of its body; holds `/wait` back until it is let go."""

    host: str = ""
    port: int = 0
    seen: list[str] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    arrived_at: list[float] = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        self.seen.append(scope["path"])
        self.arrived_at.append(scope["state"]["arrived_at"])
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["path"] == "/wait":
            self.may_answer.wait(_PATIENCE_S)
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def server() -> Iterator[Echo]:
    echo = Echo()
    config = uvicorn.Config(
        echo,
        http=connections(
            Bounds(timeout_s=_PATIENCE_S, max_connections=10, max_unread_bytes=MAX_UNREAD_BYTES),
            on_refusal=lambda status, client: None,
        ),
        lifespan="off",
        log_level="critical",
    )
    listener = socket.create_server(("127.0.0.1", 0))
    echo.host, echo.port = listener.getsockname()
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    yield echo
    echo.may_answer.set()
    running.should_exit = True
    thread.join(_PATIENCE_S)
    assert not thread.is_alive()


def test_request_arrives_with_its_head(server):
    data = request(b"abc")
    with Wire(server) as wire:
        wire.send(data[:-3])
        time.sleep(0.3)
        before_the_body = time.monotonic()
        assert wire.ask(data[-3:]).body == b"3"
    (arrived_at,) = server.arrived_at
    assert arrived_at < before_the_body


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


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


@pytest.mark.parametrize(("unsent", "is_cut"), [(True, True), (False, False)])
def test_sweep_client_that_only_sends_is_cut_while_it_has_answers_to_take(unsent, is_cut):
    cuts = []
    connection = SimpleNamespace(
        _whose_turn=lambda: (1, unsent),
        _turn=None,
        _turn_began=(0.0, 0),
        _received_bytes=0,
        _bounds=Bounds(timeout_s=2, max_connections=1, max_unread_bytes=1),
        transport=SimpleNamespace(taken_bytes=0, abort=lambda: cuts.append(True)),
    )
    for now in (0.0, 2.0):
        Connection.sweep(connection, now)
        connection._received_bytes += 1_000_000

    assert bool(cuts) == is_cut
