"""Requests that are refused at their head, on a real connection to an application that knows nothing of it."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from wire import Wire, chunked, get, request

from service.http.connection import Bounds, connections

MAX_UNREAD_BYTES = 100_000
REFUSE = "X-Refuse: yes"
REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno"
_PATIENCE_S = 30


@dataclass
class Doorkeeper:
    """Refuses who asks for it, and notes who has arrived."""

    seen: list[tuple[bytes, bytes]] = field(default_factory=list)

    def refusal(self, method, target, headers, own_headers, client):
        return REFUSAL if (b"x-refuse", b"yes") in headers else None

    def refused(self, status, client): ...

    def arrived(self, method, target):
        self.seen.append((method, target))


@dataclass
class Echo:
    """Answers each request with the length of its body; holds `/wait` back until it is let go."""

    host: str = ""
    port: int = 0
    seen: list[str] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    door: Doorkeeper = field(default_factory=Doorkeeper)

    async def __call__(self, scope, receive, send):
        self.seen.append(scope["path"])
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
            door=echo.door,
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


def test_refused_request_reaches_no_application_and_the_connection_goes_on(server):
    with Wire(server) as wire:
        assert wire.ask(request(b"x" * 5000, REFUSE)).body == b"no"
        assert wire.ask(request(b"abc")).body == b"3"
    assert server.seen == ["/classify"]


def test_refused_request_is_answered_before_its_body_comes_which_is_read_past(server):
    data = request(b"x" * 5000, REFUSE)
    with Wire(server) as wire:
        assert wire.ask(data[:-5000]).status == 429
        for start in range(0, 5000, 1000):
            wire.send(b"x" * 1000) if start else wire.send(data[-1000:])
        assert wire.ask(request(b"abc")).body == b"3"


def test_refused_request_with_a_chunked_body_is_read_past(server):
    head = request(b"", REFUSE, "Transfer-Encoding: chunked")
    with Wire(server) as wire:
        assert wire.ask(head + chunked(b"GET / HTTP/1.1\r\n\r\n", b"more", b"")).status == 429
        assert wire.ask(get("/")).body == b"0"


def test_request_has_arrived_when_its_body_is_there_and_a_refused_one_never(server):
    data = request(b"abc")
    with Wire(server) as wire, Wire(server) as other:
        assert wire.ask(request(b"x", REFUSE)).body == b"no"
        wire.send(data[:-1])
        assert other.ask(get("/first")).status == 200
        assert server.door.seen == [(b"GET", b"/first")]
        assert wire.ask(data[-1:]).body == b"3"
    assert server.door.seen == [(b"GET", b"/first"), (b"POST", b"/classify")]


def test_refused_requests_in_one_piece_are_all_answered(server):
    with Wire(server) as wire:
        wire.send(request(b"a", REFUSE), request(b"b", REFUSE), request(b"cd"), request(b"e", REFUSE))
        assert [wire.answer().body for _ in range(2)] == [b"no", b"no"]
        assert wire.answer().body == b"2"


def test_request_behind_one_that_waits_does_not_overtake_it(server):
    with Wire(server) as wire:
        wire.send(request(b"abc", target="/wait"), request(b"x", REFUSE))
        server.may_answer.set()
        assert [wire.answer().body for _ in range(2)] == [b"3", b"1"]


@pytest.mark.parametrize(("version", "header"), [("1.0", "X: y"), ("1.1", "Connection: close")])
def test_request_whose_connection_is_to_be_closed_is_left_to_the_application(server, version, header):
    with Wire(server) as wire:
        assert wire.ask(request(b"abc", REFUSE, header, version=version)).body == b"3"
        assert wire.rest() == b""


def test_refused_request_whose_body_breaks_the_rules_gets_no_second_answer(server):
    with Wire(server) as wire:
        assert wire.ask(request(b"", REFUSE, "Transfer-Encoding: chunked")).status == 429
        wire.send(b"no length\r\n")
        assert wire.rest() == b""


def test_refused_request_with_an_endless_body_is_cut(server):
    with Wire(server) as wire:
        wire.send(request(b"", REFUSE, f"Content-Length: {10**9}"))
        assert wire.answer().status == 429
        with pytest.raises(ConnectionError):
            wire.send(b"x" * 100_000_000)


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


def test_refused_request_that_offers_another_protocol_is_read_past(server):
    with Wire(server) as wire:
        wire.send(request(b"abc", REFUSE, *UPGRADE) * 60, request(b"ab"))
        assert [wire.answer().body for _ in range(60)] == [b"no"] * 60
        assert wire.answer().body == b"2"


def test_tunnel_is_refused(server):
    with Wire(server) as wire:
        assert wire.ask(request(b"", "Host: a", method="CONNECT", target="a:443")).status == 400
        assert wire.rest() == b""
