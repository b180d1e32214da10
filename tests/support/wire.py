"""Bytes to a server and what comes back, for what no well-behaved HTTP client would send."""

import json
import select
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, Self

MAX_IMAGES = 4
MAX_BODY_BYTES = 400_000
"""The limits of the server that is abused."""

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class WireAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection; as a context manager it is closed at the end."""

    def __init__(self, server: Any, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(_PATIENCE_S)
        self.socket.connect((server.host, server.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> Self:
        self.socket.sendall(b"".join(data))
        return self

    def answer(self, method: str = "GET") -> WireAnswer:
        """The next answer; of what follows it, nothing is read."""
        response = HTTPResponse(_Unread(self.socket), method=method)
        response.begin()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return WireAnswer(response.status, headers, body)

    def ask(self, *data: bytes, method: str = "GET") -> WireAnswer:
        return self.send(*data).answer(method)

    def rest(self) -> bytes:
        """All that comes until the server closes the connection, or cuts it."""
        data = b""
        try:
            while chunk := self.socket.recv(65_536):
                data += chunk
        except ConnectionError:
            pass
        return data

    def cut(self, within_s: float = _PATIENCE_S) -> bool:
        """Whether the server cuts the connection, while nothing of what it sends is read."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return bool(poll.poll(within_s * 1000))


class _Unread:
    """A socket as `HTTPResponse` wants it, which takes nothing of the next answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def makefile(self, _: str) -> Any:
        return _Bytewise(self._socket)


class _Bytewise:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def readline(self, limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) != limit and (byte := self._socket.recv(1)):
            line += byte
        return line

    def read(self, size: int = -1) -> bytes:
        data = b""
        while len(data) != size and (chunk := self._socket.recv(65_536 if size < 0 else size - len(data))):
            data += chunk
        return data

    def readinto(self, buffer: memoryview) -> int:
        return self._socket.recv_into(buffer)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def request(
    body: bytes = b"", *headers: str, method: str = "POST", target: str = "/classify", version: str = "1.1"
) -> bytes:
    """A request with the right length; a header given here replaces none."""
    lines = [f"{method} {target} HTTP/{version}", "Host: dvt", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(target: str, *headers: str) -> bytes:
    return request(b"", *headers, method="GET", target=target)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
