"""A front-end process as its parent sees it."""

import asyncio
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

from service.replica.children import child_environment
from service.settings import PREFIX


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A running front end.

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
