"""One HTTP connection: uvicorn's, with limits on what a client may send and how long it may take.

Uvicorn waits for a client without end: for its head, for its body, and until it reads its answers. Here, a client must
make progress whenever it is the client's turn. A request costs a few counts more; a sweep checks all connections once
a second.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, cast

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.access_log import Client
from service.http.problems import Refusal, refusal_answer

MIN_BYTES_PER_S = 1024
"""The rate at which a client must send or take bytes, on average over its timeout, while it is its turn."""

_MAX_HEAD_BYTES = 65_536
_MAX_HEADERS = 128
_MAX_URL_BYTES = 8_192
_MAX_PIPELINED = 64
_ROOM_SHARE = 32


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a connection.

    Attributes:
        timeout_s: seconds over which a client must send or take `MIN_BYTES_PER_S` on average, while it is its turn.
        max_connections: connections at one time; with one more, the most silent ones are closed.
        max_unread_bytes: bytes of a body that nobody reads any more, before the connection is cut.
    """

    timeout_s: float
    max_connections: int
    max_unread_bytes: int


OnRefusal = Callable[[int, Client], None]
"""Called with status and client for each answer to bytes that never became a request."""


class RequestParser(HttpRequestParser):
    """A parser that ignores offers of other protocols, since the server speaks only HTTP/1 (RFC 9110, 7.8).

    After a head with `Upgrade`, httptools leaves everything to the other protocol, even the body. So such a head is
    parsed twice, the second time without that header. The connection ignores the first time, in which
    `should_upgrade()` is true.
    """

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self._connection = connection
        # Bytes after a request that closes its connection are no error, and are not read.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: Any) -> None:
        """Parse the bytes and call the connection back."""
        parser = self
        while True:
            try:
                super(RequestParser, parser).feed_data(data)
                return
            except HttpParserUpgrade as offered:
                data = memoryview(data)[offered.args[0] :]
                head = parser._head_without_upgrade()
                # A parser reads no further once the connection is to be closed, so this takes a new one.
                parser = self._connection.parser = RequestParser(self._connection)
                super(RequestParser, parser).feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        request_line = b"%s %s HTTP/%s" % (self.get_method(), self._connection.url, self.get_http_version().encode())
        headers = (b"%s: %s" % header for header in self._connection.headers if header[0] != b"upgrade")
        return b"\r\n".join((request_line, *headers, b"", b""))


class _Transport:
    """A transport that counts the bytes it sends, and that lets the client read its answer before it closes."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._transport = transport
        self._connection = connection
        self._closing = False
        self._written_bytes = 0
        self.may_linger = True
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.abort = transport.abort

    @property
    def taken_bytes(self) -> int:
        """The bytes written that the client's side has taken."""
        return self._written_bytes - self.unsent_bytes

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self._written_bytes += len(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        if self._connection.reading and self.may_linger:
            # A socket that is closed with unread bytes resets the connection, and the client may lose its answer.
            self._closing = True
            self._transport.write_eof()
            self._connection.flow.resume_reading()
        else:
            self._transport.close()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with a limit on the head, and without clients that make no progress.

    Attributes:
        reading: whether a request has begun to arrive and is not complete.
    """

    transport: Any

    def __init__(self, *args: Any, bounds: Bounds, on_refusal: OnRefusal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)
        self.reading = False
        self._bounds = bounds
        self._on_refusal = on_refusal
        self._in_head = False
        self._head_bytes = 0
        self._num_requests = 0
        self._received_bytes = 0
        self._unread_bytes = 0
        self._heard_at = 0.0
        self._refusal = Refusal.MALFORMED
        self._broken = False
        self._turn: tuple[int, bool] | None = None
        self._turn_began = (0.0, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new client; if there are too many, close the most silent ones."""
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        self._heard_at = self.loop.time()
        self._arm_idle_timer()
        if len(self.connections) > self._bounds.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer the request in progress, and wait for nothing else."""
        self.transport.may_linger = False
        if self.transport.is_closing():
            self.transport.abort()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse the bytes, or discard them if nobody reads them any more."""
        self._received_bytes += len(data)
        self._heard_at = self.loop.time()
        if self._broken or self.transport.is_closing():
            self._discard(len(data))
            return
        was_in_head = self._in_head
        super().data_received(data)
        if self._in_head and not self._broken:
            self._head_bytes = self._head_bytes + len(data) if was_in_head else 0
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse(Refusal.HEAD_TOO_LARGE)
        elif self.reading and self._is_idle():
            self._discard(len(data))

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        self.reading = self._in_head = True
        self._head_bytes = 0
        self._num_requests += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of the request is complete."""
        if len(self.url) > _MAX_URL_BYTES:
            self._refusal = Refusal.URL_TOO_LONG
        elif len(self.headers) > _MAX_HEADERS:
            self._refusal = Refusal.HEAD_TOO_LARGE
        if self._refusal is not Refusal.MALFORMED or len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError(self._refusal.title)  # the parser stops, and `send_400_response` is called
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no tunnels here")
            return  # the head is parsed again without its offer
        super().on_headers_complete()
        self.scope["state"]["arrived_at"] = time.monotonic()
        self._in_head = False

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self.parser.should_upgrade():
            return
        self.reading = False
        self._unread_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that the parser refused."""
        self._refuse(self._refusal)

    def sweep(self, now: float) -> None:
        """Cut the connection if it is the client's turn, and it made too little progress over its timeout."""
        turn = self._whose_turn()
        if turn is None:
            self._turn = None
            if not self.reading and self.timeout_keep_alive_task is None and self._is_idle():
                self._arm_idle_timer()  # the client had sent bytes that were no request
            return
        # While there are answers to take, sending is no progress.
        moved_bytes = self.transport.taken_bytes if turn[1] else self._received_bytes
        since, from_bytes = self._turn_began
        if turn == self._turn:
            if now - since < self._bounds.timeout_s:
                return
            if moved_bytes - from_bytes < self._bounds.timeout_s * MIN_BYTES_PER_S:
                self.transport.abort()
        self._turn, self._turn_began = turn, (now, moved_bytes)

    def _whose_turn(self) -> tuple[int, bool] | None:
        """The request that the client is to send, or 0, and whether it is to take answers; None if it is to wait."""
        unsent = self.transport.unsent_bytes > 0
        sending = self.reading and not self.flow.read_paused
        if not (unsent or sending or self.transport.is_closing()):
            return None
        return (self._num_requests if sending else 0, unsent)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm_idle_timer(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _discard(self, num_bytes: int) -> None:
        self._unread_bytes += num_bytes
        if self._unread_bytes > self._bounds.max_unread_bytes:
            self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Read no further, and answer instead of the application if no other answer is due before."""
        self._broken = True
        if not self._is_idle() and self._in_head:
            self.cycle.keep_alive = False  # the earlier request is answered, and nothing after it
            return
        answered = self.cycle is not None and self.cycle.response_started
        if self.pipeline or (answered and not self._in_head):
            self.transport.abort()
            return
        self.transport.write(refusal_answer(refusal, self.server_state.default_headers))
        self._on_refusal(refusal.status, self.client)
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _make_room(self) -> None:
        others = cast(set[Connection], self.connections) - {self}
        # A client that waits for its answer is kept. If all do, the new one goes.
        expendable = [each for each in others if each.reading or each._is_idle()]
        # It closes several at once, so that not every client of a flood makes it search all connections.
        count = max(1, self._bounds.max_connections // _ROOM_SHARE)
        for each in nsmallest(count, expendable, key=lambda each: each._heard_at) or [self]:
            each.transport.abort()
