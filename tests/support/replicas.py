"""`dvt serve` as real processes at addresses of the test's choosing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]


def status_of(host: str, port: int, path: str) -> int | None:
    """The status of a GET on a connection of its own; None when nobody answers."""
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def free_port(*hosts: str) -> int:
    """A port that nobody uses on any of these addresses."""
    while True:
        with socket.socket() as first:
            first.bind((hosts[0], 0))
            port: int = first.getsockname()[1]
            try:
                for host in hosts[1:]:
                    with socket.socket() as other:
                        other.bind((host, port))
            except OSError:
                continue
            return port


@dataclass
class ReplicaProcess:
    """One replica: the engine's process, with the front ends it starts, is a process group as a container is one.

    Attributes:
        program: what Python runs.
        folder: the working directory.
    """

    host: str
    port: int
    log: Path
    settings: dict[str, str]
    program: Sequence[str] = ("-m", "service", "serve")
    folder: Path = ROOT
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, or start it anew."""
        settings = {
            "DVT_HTTP_HOST": self.host,
            "DVT_HTTP_PORT": str(self.port),
            "DVT_DEVICE": "cpu",
            "DVT_DTYPE": "float32",
            "DVT_TORCH_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.program],
                env={**os.environ, **settings},
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def status(self, path: str) -> int | None:
        """The status of a GET; None when nobody answers."""
        return status_of(self.host, self.port, path)

    def until_status(self, path: str, status: int) -> None:
        """Wait until a GET has this status; fail when the process ends before."""

        def reached() -> bool:
            answered = self.status(path)
            assert answered is not None or self.process.poll() is None, self.log.read_text()
            return answered == status

        eventually(reached, self.log.read_text)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the replica."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End every process of the replica at once, as the death of its container would."""
        if self.process.returncode is None:
            self.signal_all(signal.SIGKILL)
            self.process.wait(PATIENCE_S)
