"""One HTTP connection: uvicorn's, with bounds on what a client may send and on how long it may take.

Uvicorn waits for a client for ever: for its head, its body, and for its reading what it asked for. Here, whenever it is
the client's turn, something has to move. Nothing of this costs a request more than a few counts; a sweep looks at all
connections once a second.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.access_log import Client
from service.http.parser import RequestParser
from service.http.problems import Refusal, refusal_answer

MIN_BYTES_PER_S = 1024
"""What a client has to send or take in, on average over its timeout, while it is its turn."""

_MAX_HEAD_BYTES = 65_536
_MAX_HEADERS = 128
_MAX_URL_BYTES = 8_192
_MAX_PIPELINED = 64
_ROOM_SHARE = 32


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may do to one connection.

    Attributes:
        timeout_s: seconds in which it must send or take `MIN_BYTES_PER_S` for each of them, while it is its turn.
        max_connections: connections at one time; one more, and the one that was silent longest is closed.
        max_unread_bytes: of a body that nobody will read any more, before the connection is cut.
    """

    timeout_s: float
    max_connections: int
    max_unread_bytes: int


OnRefusal = Callable[[int, Client], None]
"""Told the status and the client of what was answered here, before it was a request."""


class _Transport:
    """A transport that counts what it sends, and whose closing lets the client read its answer first."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._transport = transport
        self._connection = connection
        self._closing = False
        self.may_linger = True
        self.written_bytes = 0
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.abort = transport.abort

    @property
    def taken_bytes(self) -> int:
        """What the client's side has taken of what was written."""
        return self.written_bytes - self.unsent_bytes

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self.written_bytes += len(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        if self._connection.reading and self.may_linger:
            # Closed with unread bytes, a socket resets the connection, and the client may never see its answer.
            self._closing = True
            self._transport.write_eof()
            self._connection.flow.resume_reading()
        else:
            self._transport.close()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, which refuses endless heads and gives up clients that do not get on.

    Attributes:
        reading: whether a request has begun to arrive and has not come to its end.
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
        """Take a new client, in the place of the most silent one where there are too many."""
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        self._heard_at = self.loop.time()
        self._arm_idle_timer()
        if len(self.connections) > self._bounds.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer what is under way, and wait for nothing else."""
        self.transport.may_linger = False
        if self.transport.is_closing():
            self.transport.abort()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Read what has come, unless nobody wants it any more."""
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
        """Its head is there."""
        if len(self.url) > _MAX_URL_BYTES:
            self._refusal = Refusal.URL_TOO_LONG
        elif len(self.headers) > _MAX_HEADERS:
            self._refusal = Refusal.HEAD_TOO_LARGE
        if self._refusal is not Refusal.MALFORMED or len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError(self._refusal.title)  # the parser stops, and asks for the answer to something invalid
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no tunnels here")
            return  # to be called again for the same request
        super().on_headers_complete()
        self.scope["state"]["arrived_at"] = time.monotonic()
        self._in_head = False

    def on_message_complete(self) -> None:
        """It has come to its end."""
        if self.parser.should_upgrade():
            return
        self.reading = False
        self._unread_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        self._refuse(self._refusal)

    def sweep(self, now: float) -> None:
        """Give the client up if it is its turn and nothing has moved for too long."""
        if (turn := self._whose_turn()) is None:
            self._turn = None
            if not self.reading and self.timeout_keep_alive_task is None and self._is_idle():
                self._arm_idle_timer()  # it had sent something, but no request
            return
        # A client that only sends while it has answers to take does not get on.
        moved_bytes = self.transport.taken_bytes if turn[1] else self._received_bytes
        since, from_bytes = self._turn_began
        timeout_s = self._bounds.timeout_s
        if turn == self._turn and now - since >= timeout_s and moved_bytes - from_bytes < timeout_s * MIN_BYTES_PER_S:
            self.transport.abort()
        elif turn != self._turn or now - since >= timeout_s:
            self._turn, self._turn_began = turn, (now, moved_bytes)

    def _whose_turn(self) -> tuple[int, bool] | None:
        """What is waited for from the client: the request it is sending, or its taking what was written."""
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
        """Answer instead of the application, if the client's next answer is this one, and read no further."""
        self._broken = True
        if self.cycle is not None and not self.cycle.response_complete and self._in_head:
            self.cycle.keep_alive = False  # what was asked before is answered first, and is all
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
        # Whoever waits for an answer has sent all it was to send. The new one goes where everybody else does.
        expendable = [each for each in others if each.reading or each._is_idle()]
        # Some at once, so that not every client of a flood makes us look through all connections.
        count = max(1, self._bounds.max_connections // _ROOM_SHARE)
        for each in nsmallest(count, expendable, key=lambda each: each._heard_at) or [self]:
            each.transport.abort()


def connections(bounds: Bounds, on_refusal: OnRefusal) -> type[asyncio.Protocol]:
    """What uvicorn is to make for each client."""
    made = partial(Connection, bounds=bounds, on_refusal=on_refusal)
    return cast(type[asyncio.Protocol], made)
