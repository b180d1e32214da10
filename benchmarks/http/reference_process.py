"""Talks to `benchmarks.http.reference` in its own process."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from service.capacity.child import ServerFailedError
from service.replica.process import child_environment


class ReferenceProcess:
    """Measures decoding and computing without HTTP on request."""

    def __init__(self, process: "subprocess.Popen[str]", jpegs: Sequence[bytes]) -> None:
        self._process = process
        self._jpegs = [jpeg.hex() for jpeg in jpegs]
        self._read()

    def images_per_s(self, seconds: float) -> float:
        """Images decoded and answered per second, as many in flight as are admitted."""
        return float(self._ask(do="throughput", seconds=seconds)["images_per_s"])

    def latencies_s(self, seconds: float, pause_s: float) -> list[float]:
        """Seconds to decode and compute one image after the other."""
        return list(self._ask(do="latency", seconds=seconds, pause_s=pause_s)["latencies_s"])

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**command, "jpegs": self._jpegs}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerFailedError("the process that measures without HTTP has ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def reference_process(jpegs: Sequence[bytes], environment: Mapping[str, str]) -> Iterator[ReferenceProcess]:
    """Start it with these settings on top of this process's own, and end it.

    Raises:
        ServerFailedError: it did not get ready.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http.reference"],
        env=child_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield ReferenceProcess(process, jpegs)
        finally:
            process.terminate()
