"""Starts a server in a separate process, waits until it is ready, and stops it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from service.errors import ServiceError
from service.replica.process import child_environment

SERVE = ("-m", "service", "serve")
_START_TIMEOUT_S = 300.0
_SERVER_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05
_LOG_TAIL_BYTES = 2000


class ServerFailedError(ServiceError):
    """A server did not get ready, or did not stop with code 0; the text ends with its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running server."""

    host: str
    port: int
    pid: int


@contextmanager
def served(
    arguments: tuple[str, ...] = SERVE, environment: Mapping[str, str] | None = None, log_path: Path | None = None
) -> Iterator[Child]:
    """Start a server on a free port, wait until it is ready, and stop it at the end.

    Args:
        arguments: arguments of the Python interpreter.
        environment: additions to this process's environment.
        log_path: file for the server's output.

    Raises:
        ServerFailedError: it was not ready in time, or ended with another code than 0.
    """
    port = _free_port()
    address = {"DVT_HTTP_HOST": "127.0.0.1", "DVT_HTTP_PORT": str(port)}
    with tempfile.TemporaryFile("w+") if log_path is None else log_path.open("w+") as log:
        # A separate session: its processes can be killed together, and do not receive a Ctrl-C of this terminal.
        process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, *arguments],
            env={**child_environment({"DVT_CONFIG_STORE": "memory", **(environment or {})}), **address},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_ready(process, port, log.fileno())
            yield Child("127.0.0.1", port, process.pid)
            _stop(process, log.fileno())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerFailedError(f"the server did not get ready (exit code {process.poll()}): {_tail(log)}")
        time.sleep(_POLL_S)


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes], log: int) -> None:
    process.terminate()
    try:
        code = process.wait(_SERVER_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ServerFailedError(
            f"the server did not end within {_SERVER_STOP_TIMEOUT_S:.0f} s: {_tail(log)}"
        ) from error
    if code != 0:
        raise ServerFailedError(f"the server ended with code {code}: {_tail(log)}")


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES)).decode(errors="replace")
    return " | ".join(text.split("\n")[-6:])
