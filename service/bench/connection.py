"""One keep-alive connection of a lean HTTP/1.1 client: a client library would measure itself."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(slots=True)
class Reply:
    """One answer; header names are lower case."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


class Connection(asyncio.Protocol):
    """Sends one request at a time and waits for its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._reply = Reply()
        self._chunks: list[bytes] = []

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Connect.

        Raises:
            OSError: nobody listens there.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Reply:
        """Send a whole request and wait for its answer.

        Raises:
            ConnectionError: the connection ended before the answer did, or what came was not HTTP.
        """
        if not self.usable:
            raise ConnectionError("the connection is closed")
        assert self._transport is not None
        assert self._waiter is None, "one request at a time"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """End the connection; an answer that is still awaited counts as lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods of asyncio's, not its class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever still waits has lost its answer."""
        self._fail("the connection ended before the answer")

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.close()

    def on_message_begin(self) -> None:
        """Start a new answer."""
        self._reply, self._chunks = Reply(), []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._reply.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        self._reply.status = self._parser.get_status_code()
        self._reply.body = b"".join(self._chunks)
        if not self._parser.should_keep_alive():
            assert self._transport is not None
            self._transport.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._reply)

    def _fail(self, reason: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(reason))
