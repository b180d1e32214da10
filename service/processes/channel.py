"""Messages over a connected pair of sockets: a length, then that many bytes of MessagePack.

A pair of sockets that two processes inherit needs no address, nobody else can connect to it, and when either process
ends, however it ends, the other reads the end of the stream at once.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

import msgspec

_LENGTH_BYTES = 4
_READ_AHEAD_BYTES = 2**20

_encode = msgspec.msgpack.Encoder().encode

T = TypeVar("T")


class Channel(Generic[T]):
    """One end of a connection; receives messages of the type `T` it was opened for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = msgspec.msgpack.Decoder(incoming).decode

    @classmethod
    async def open(cls, sock: socket.socket, incoming: Any) -> Self:
        """Take over a connected socket."""
        reader, writer = await asyncio.open_connection(sock=sock, limit=_READ_AHEAD_BYTES)
        return cls(reader, writer, incoming)

    def send(self, message: msgspec.Struct) -> None:
        """Send without waiting; into the void once the other side is gone, which `receive` tells."""
        if not self._writer.is_closing():
            self._writer.write(_framed(message))

    async def receive(self) -> AsyncIterator[T]:
        """Every message until the other side is gone."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "little")
                yield self._decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def close(self) -> None:
        """Close after what was sent has left."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


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
