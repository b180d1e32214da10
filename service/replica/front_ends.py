"""Starts front ends: each as a separate process, or one as a task in the engine process."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from service.replica.process import child_environment
from service.settings import PREFIX


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A running front end.

    Attributes:
        channel: the engine's end; closed when the front end is gone.
        wait: returns the exit code; called after the channel has closed.
        kill: ends it at once, if it has not ended.
    """

    channel: socket.socket
    wait: Callable[[], Awaitable[int]]
    kill: Callable[[], object]


def start_process(index: int, listener_fd: int, permits_fd: int) -> FrontEnd:
    """Start a front end as a process.

    Args:
        index: its place among the permits.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        descriptors = (theirs.fileno(), listener_fd, permits_fd)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "service.replica.front_end", *map(str, descriptors), str(index)],
            pass_fds=descriptors,
            # Settings come with the first message only, never from the environment.
            env={name: value for name, value in child_environment().items() if not name.startswith(PREFIX)},
        )
    return FrontEnd(ours, partial(asyncio.to_thread, process.wait), process.kill)


def start_task(listener: socket.socket, permits_taken: memoryview) -> FrontEnd:
    """Start the only front end of a replica on this event loop.

    Args:
        permits_taken: one number.
    """
    from service.replica.front_end import serve  # with FastAPI: slow to import, and not needed for processes

    ours, theirs = socket.socketpair()
    task = asyncio.create_task(serve(theirs, listener, permits_taken))

    async def wait() -> int:
        await asyncio.wait({task})
        return 1 if task.cancelled() or task.exception() else task.result()

    return FrontEnd(ours, wait, task.cancel)
