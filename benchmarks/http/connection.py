"""One keep-alive connection of a small HTTP/1.1 client; a client library would dominate the measurement."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(slots=True)
class HttpReply:
    """One answer; header names are lower case."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


Then = Callable[[HttpReply | ConnectionError], None]
"""Receives the answer, or the reason why there is none."""


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time and waits for its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._then: Then | None = None
        self._reply = HttpReply()
        self._complete = False
        self._chunks: list[bytes] = []

    @classmethod
    async def open(cls, host: str, port: int) -> "ClientConnection":
        """Connect.

        Raises:
            OSError: no server listens there.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, then: Then) -> None:
        """Send a whole request on a usable connection; costs a fraction of `ask`.

        Args:
            then: called once, with the answer or when the connection has ended.
        """
        assert self._transport is not None
        assert self._then is None, "one request at a time"
        self._then = then
        self._transport.write(request)

    async def ask(self, request: bytes) -> HttpReply:
        """Send a whole request and wait for its answer.

        Raises:
            ConnectionError: the connection ended before the answer was complete, or the answer was not HTTP.
        """
        if not self.usable:
            raise ConnectionError("the connection is closed")
        waiter: asyncio.Future[HttpReply | ConnectionError] = asyncio.get_running_loop().create_future()
        self.send(request, waiter.set_result)
        try:
            answer = await waiter
        finally:
            self._then = None
        if isinstance(answer, ConnectionError):
            raise answer
        return answer

    def close(self) -> None:
        """End the connection; an answer that is still awaited counts as lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods of asyncio's, not its class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a lost answer to a waiting caller."""
        self._end(ConnectionError("the connection ended before the answer"))

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(ConnectionError(f"not HTTP: {error}"))
            self.close()
        if self._complete:
            self._complete = False
            self._end(self._reply)

    def on_message_begin(self) -> None:
        """Start a new answer."""
        self._reply, self._chunks = HttpReply(), []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._reply.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Deliver the answer."""
        self._reply.status = self._parser.get_status_code()
        self._reply.body = b"".join(self._chunks)
        if not self._parser.should_keep_alive():
            assert self._transport is not None
            self._transport.close()
        self._complete = True

    def _end(self, answer: HttpReply | ConnectionError) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(answer)
