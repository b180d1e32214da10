"""A front end: HTTP and image decoding.

The engine process starts `python -m service.replica.front_end CHANNEL LISTENER PERMITS INDEX`; the first three are
inherited file descriptors.
"""

import asyncio
import mmap
import signal
import socket
import sys
from collections.abc import MutableSequence
from typing import cast

from service.http.context import Context
from service.http.listener import accepting
from service.http.server import Server
from service.link.channel import receive_one
from service.link.messages import ToFrontEnd
from service.replica.process import log_to_stderr, settle_heap


def _context(channel: socket.socket, permits_taken: memoryview, index: int) -> Context:
    welcome = receive_one(channel, ToFrontEnd)
    # A memoryview of integers can be read and written like a list.
    return Context.of(welcome, channel, cast(MutableSequence[int], permits_taken), index)


async def serve(channel: socket.socket, listener: socket.socket, permits_taken: memoryview) -> int:
    """Serve on this event loop until the engine process ends it; returns the exit code of such a process."""
    server = Server(await asyncio.to_thread(_context, channel, permits_taken, 0))
    await server.serve(sockets=accepting(listener))
    return int(server.failed)


def main() -> int:
    """Serve in this process until the engine process ends it; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole replica; the engine process decides
    channel_fd, listener_fd, permits_fd, index = map(int, sys.argv[1:])
    permits_taken = memoryview(mmap.mmap(permits_fd, 0)).cast("q")
    try:
        context = _context(socket.socket(fileno=channel_fd), permits_taken, index)
    except EOFError:
        return 1
    log_to_stderr(context.settings.log_level)
    server = Server(context)
    settle_heap()
    server.run(sockets=accepting(socket.socket(fileno=listener_fd)))
    return int(server.failed)


if __name__ == "__main__":
    sys.exit(main())
