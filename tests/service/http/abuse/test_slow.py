"""Clients that do not get on: each holds its own connection, for a while, and nothing else."""

import contextlib

import pytest
from tiny_model import png
from waiting import eventually
from wire import Wire, get, request

IMAGE = "Content-Type: image/png"
STOPPED = {
    "head": b"POST /classify HTTP/1.1\r\nHost: dvt\r\n",
    "body": request(png(), IMAGE)[:-10],
    "chunks": request(b"", IMAGE, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
    "unread_body": request(b"x" * 1000, "Content-Type: text/plain")[:-10],
}
SLOW = [b"", b"\r\n", *STOPPED.values()]


def test_slow_clients_keep_nobody_out_and_are_given_up_when_they_stop(server):
    with contextlib.ExitStack() as stack:
        for number in range(60):
            stack.enter_context(Wire(server)).send(SLOW[number % len(SLOW)])
        stopped = [stack.enter_context(Wire(server)).send(data) for data in STOPPED.values()]
        with Wire(server) as honest:
            assert [honest.ask(request(png(), IMAGE)).status for _ in range(20)] == [200] * 20
        for wire in stopped:
            assert b"HTTP/1.1 2" not in wire.rest()


def test_clients_that_send_byte_by_byte_are_given_up(server):
    starts = (b"GET /livez HTTP/1.1\r\nX: ", request(b"", IMAGE, "Content-Length: 1000"))
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)).send(start) for start in starts]
        refused = stack.enter_context(Wire(server)).send(request(b"", IMAGE, f"Content-Length: {10**9}"))
        assert refused.answer().status == 413
        assert refused.rest() == b""

        def are_cut():
            still_there = [wire for wire in [*wires, refused] if not wire.cut(within_s=0.02)]
            for wire in still_there:
                with contextlib.suppress(ConnectionError):
                    wire.send(b"x")
            return not still_there

        eventually(are_cut, "a last byte was waited for", within_s=40)


@pytest.mark.parametrize("goes_on_asking", [False, True])
def test_client_that_does_not_read_its_answers_is_cut(server, goes_on_asking):
    with Wire(server, receive_buffer=4096) as wire:
        wire.socket.setblocking(False)

        def ask_as_much_as_is_taken():
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while True:
                    wire.socket.sendall(get("/openapi.json") * 50)

        ask_as_much_as_is_taken()
        eventually(lambda: wire.cut(within_s=0.05) or (goes_on_asking and ask_as_much_as_is_taken()), within_s=40)
