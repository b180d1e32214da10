"""A front-end process: HTTP and decoding.

The engine process starts it as `python -m service.replica.front_end CHANNEL LISTENER PERMITS INDEX`, with the
descriptors it inherits.
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
from service.link.messages import ToFrontEnd, Welcome
from service.replica.heap import settle_heap
from service.replica.logs import log_to_stderr


def run(channel: socket.socket, listener: socket.socket, permits_taken: MutableSequence[int], index: int) -> int:
    """Serve until told to stop; returns the process's exit code."""
    try:
        welcome: Welcome = receive_one(channel, ToFrontEnd)
    except EOFError:
        return 1
    context = Context.of(welcome, channel, permits_taken, index)
    log_to_stderr(context.settings.log_level)
    server = Server(context)
    settle_heap()
    server.run(sockets=accepting(listener))
    return 1 if server.failed else 0


async def serve(channel: socket.socket, listener: socket.socket, permits_taken: MutableSequence[int]) -> int:
    """The same on an event loop of the engine's process; returns what would be the exit code."""
    welcome: Welcome = await asyncio.to_thread(receive_one, channel, ToFrontEnd)
    server = Server(Context.of(welcome, channel, permits_taken, 0))
    await server.serve(sockets=accepting(listener))
    return 1 if server.failed else 0


def main() -> int:
    """Take over what was inherited, and run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel_fd, listener_fd, permits_fd, index = map(int, sys.argv[1:])
    # A view of integers can be read and written like a list of them.
    permits = cast(MutableSequence[int], memoryview(mmap.mmap(permits_fd, 0)).cast("q"))
    return run(socket.socket(fileno=channel_fd), socket.socket(fileno=listener_fd), permits, index)


if __name__ == "__main__":
    sys.exit(main())
