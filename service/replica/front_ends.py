"""A front end as the engine process sees it: a process of its own, or a task in the same one."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Self, cast

from service.replica.children import child_environment
from service.settings import PREFIX


@dataclass(frozen=True, slots=True)
class FrontEndTask:
    """A front end on this event loop, connected as a process would be.

    Attributes:
        channel: the engine's end.
    """

    task: asyncio.Task[int]
    channel: socket.socket

    @classmethod
    def start(cls, listener: socket.socket, permits_taken: memoryview) -> Self:
        """Start the only front end of a replica.

        Args:
            permits_taken: one number.
        """
        from service.replica.front_end import serve  # with FastAPI, which is slow to import and not needed otherwise

        ours, theirs = socket.socketpair()
        return cls(asyncio.create_task(serve(theirs, listener, cast(MutableSequence[int], permits_taken))), ours)

    async def wait(self) -> int:
        """What would be the exit code of a process."""
        await asyncio.wait({self.task})
        return 1 if self.task.cancelled() or self.task.exception() else self.task.result()

    def kill(self) -> None:
        """End it at once."""
        self.task.cancel()


@dataclass(frozen=True, slots=True)
class FrontEndProcess:
    """A front end in a process of its own.

    Attributes:
        channel: the parent's end; reads as closed when the process is gone.
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket

    @classmethod
    def start(cls, index: int, listener_fd: int, permits_fd: int) -> Self:
        """Start a front end that accepts from the listener.

        Args:
            index: its place among the permits.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), listener_fd, permits_fd)
            # Its settings come with the first message; nothing in its surroundings may say otherwise.
            environment = {name: value for name, value in child_environment().items() if not name.startswith(PREFIX)}
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "service.replica.front_end", *map(str, descriptors), str(index)],
                pass_fds=descriptors,
                env=environment,
            )
        return cls(process, ours)

    async def wait(self) -> int:
        """The exit code, once it has ended; to be asked when its channel has closed, when that is any moment."""
        return await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
