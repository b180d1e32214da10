"""Clients that do not get on: each holds its own connection, for a while, and nothing else."""

import contextlib

import pytest
from tiny_model import png
from wire import Wire, get, request

from service.capacity.child import served

IMAGE = "Content-Type: image/png"
SLOW = {
    "silent": b"",
    "head": b"POST /classify HTTP/1.1\r\nHost: dvt\r\n",
    "body": request(png(), IMAGE)[:-10],
    "chunks": request(b"", IMAGE, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
    "unread_body": request(b"x" * 1000, "Content-Type: text/plain")[:-10],
    "line_end": b"\r\n",
}


def assert_given_up_byte_by_byte(wire):
    """It is cut although it goes on sending, a byte at a time."""
    for _ in range(900):
        if wire.cut(within_s=0.05):
            return
        with contextlib.suppress(ConnectionError):
            wire.send(b"x")
    pytest.fail("its last byte was waited for")


def test_a_hundred_slow_clients_hold_no_permit_and_keep_nobody_out(server):
    with contextlib.ExitStack() as stack:
        for number in range(102):
            data = [*SLOW.values()][number % len(SLOW)]
            stack.enter_context(Wire(server)).send(data)
        with Wire(server) as honest:
            assert [honest.ask(request(png(), IMAGE)).status for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("kind", ["head", "body", "chunks", "unread_body"])
def test_client_that_stops_in_the_middle_is_given_up(server, kind):
    with Wire(server) as wire:
        assert b"HTTP/1.1 2" not in wire.send(SLOW[kind]).rest()


@pytest.mark.parametrize("start", [b"GET /livez HTTP/1.1\r\nX: ", request(b"", IMAGE, "Content-Length: 1000")])
def test_client_that_sends_byte_by_byte_is_given_up(server, start):
    with Wire(server) as wire:
        wire.send(start)
        assert_given_up_byte_by_byte(wire)


def test_client_that_does_not_read_its_answers_is_cut(server):
    with Wire(server, receive_buffer=4096) as wire:
        wire.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                wire.socket.sendall(get("/openapi.json") * 50)
        assert wire.cut()


def test_client_that_goes_on_asking_and_never_reads_is_cut(server):
    with Wire(server, receive_buffer=4096) as wire:
        wire.socket.setblocking(False)
        for _ in range(600):
            if wire.cut(within_s=0.05):
                return
            with contextlib.suppress(BlockingIOError, ConnectionError):
                wire.socket.send(get("/openapi.json") * 10)
    pytest.fail("it held its connection by sending alone")


def test_client_that_leaves_its_refused_body_open_is_given_up(server):
    with Wire(server) as wire:
        wire.send(request(b"", IMAGE, f"Content-Length: {10**9}"))
        assert wire.answer().status == 413
        assert wire.rest() == b""
        assert_given_up_byte_by_byte(wire)


def test_more_connections_than_the_limit_close_the_most_silent_and_honest_clients_get_in(model):
    settings = {"DVT_MODEL": model, "DVT_MAX_CONNECTIONS": "8", "DVT_DTYPE": "float32", "DVT_HTTP_WORKERS": "0"}
    with served(environment=settings) as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Wire(server)).send(SLOW["head"]) for _ in range(40)]
        with Wire(server) as honest:
            assert [honest.ask(request(png(), IMAGE)).status for _ in range(5)] == [200] * 5
        assert silent[0].rest() == b""
