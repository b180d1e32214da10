"""A server that answers like the service, and badly where it is told to: what a load generator has to notice."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

Reaction = Callable[[int, str], bytes | None]
"""From a request's number and id to the whole answer; None closes the connection without one."""


def answer(request_id: str, body: object, status: str = "200 OK", headers: str = "") -> bytes:
    """An HTTP answer."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nX-Request-ID: {request_id}\r\nContent-Length: {len(text)}\r\n{headers}\r\n"
    return head.encode() + text


def good(number: int, request_id: str, images: int = 1, label: str = "cat") -> bytes:
    """What the service would say."""
    result = {"label": label, "confidence": 0.75}
    body = {"id": request_id, **result} if images == 1 else {"id": request_id, "results": [result] * images}
    return answer(request_id, body)


@asynccontextmanager
async def odd_server(react: Reaction = good) -> AsyncIterator[int]:
    """Serve on a free port, which is yielded; `/livez` is always fine."""
    numbers = count(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"Content-Length: (\d+)", head)
                if length:
                    await reader.readexactly(int(length[1]))
                if head.startswith("GET"):
                    writer.write(answer("", {}))
                    continue
                found = re.search(r"X-Request-ID: (\S+)", head)
                reply = react(next(numbers), found[1] if found else "")
                if reply is None:
                    return
                writer.write(reply)
                if b"Connection: close" in reply:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
