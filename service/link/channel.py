"""Messages over a connected pair of sockets: a length, then that many bytes of MessagePack.

A pair of sockets that two processes inherit needs no address, nobody else can connect to it, and when either process
ends, however it ends, the other reads the end of the stream at once.

Messages are cut here and not by `asyncio.StreamReader`: a request takes 400 instead of 435 us of its front end's time
(`benchmarks/README.md`, medians of six alternating rounds).
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Generic, Self, TypeVar

import msgspec

_LENGTH_BYTES = 4

_encode = msgspec.msgpack.Encoder().encode

T = TypeVar("T")


class Channel(Generic[T]):
    """One end of a connection; receives messages of the type `T` it was opened for."""

    def __init__(self, transport: asyncio.Transport, frames: "_Frames", incoming: Any) -> None:
        self._transport = transport
        self._frames = frames
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []

    @classmethod
    async def open(cls, sock: socket.socket, incoming: Any) -> Self:
        """Take over a connected socket."""
        transport, frames = await asyncio.get_running_loop().create_connection(_Frames, sock=sock)
        return cls(transport, frames, incoming)

    def send(self, message: msgspec.Struct) -> None:
        """Send without waiting; into the void once the other side is gone, which `receive` tells."""
        if not self._unsent:
            # Whatever is said in this turn of the loop leaves together.
            self._loop.call_soon(self._flush)
        self._unsent.append(_framed(message))

    async def receive(self) -> AsyncIterator[T]:
        """Every message until the other side is gone."""
        frames = self._frames
        while True:
            while frames.complete:
                yield self._decode(frames.complete.popleft())
            if frames.lost.is_set():
                return
            frames.arrived.clear()
            await frames.arrived.wait()

    async def close(self) -> None:
        """Close after what was sent has left."""
        self._flush()
        self._transport.close()
        await self._frames.lost.wait()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))


class _Frames(asyncio.Protocol):
    """Cuts what arrives into messages.

    Nothing is held back: what may be under way is bounded by the permits.

    Attributes:
        complete: the bodies of messages that nobody has taken yet.
        arrived: set when there may be more of them, and at the end.
        lost: set at the end.
    """

    def __init__(self) -> None:
        self.complete: deque[bytes] = deque()
        self.arrived = asyncio.Event()
        self.lost = asyncio.Event()
        self._unread = bytearray()

    def data_received(self, data: bytes) -> None:
        unread, start = self._unread, 0
        unread += data
        while len(unread) >= start + _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            end = body + int.from_bytes(unread[start:body], "little")
            if len(unread) < end:
                break
            self.complete.append(bytes(unread[body:end]))
            start = end
        del unread[:start]
        if self.complete:
            self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.arrived.set()


def _framed(message: msgspec.Struct) -> bytes:
    body = _encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


def receive_one(sock: socket.socket, incoming: Any) -> Any:
    """Wait for one message without an event loop.

    Raises:
        EOFError: when the other side is gone.
    """
    length = int.from_bytes(_read(sock, _LENGTH_BYTES), "little")
    return msgspec.msgpack.Decoder(incoming).decode(_read(sock, length))


def _read(sock: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise EOFError("the other side is gone")
        parts += part
    return parts
