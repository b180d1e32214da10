"""One call of `on_a_gpu.py`: its parts as processes with time limits, and its report."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
_LOG_BYTES = MIB
# Shares of the whole time: reserved for a part to end itself, and for the archives.
_GRACE_SHARE, _PACKING_SHARE = 0.05, 0.07


class Session:
    """The parts of one call, the remaining time, and the report.

    Attributes:
        environment: of the parts' processes.
    """

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self.seconds = out, seconds
        self.report: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "parts": []}
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "140"}
        self._until = time.monotonic() + seconds * (1 - _PACKING_SHARE)
        self._log = out / "log.txt"
        self._log.write_bytes(b"")

    @property
    def left_s(self) -> float:
        """Seconds until the last part must be asked to end."""
        return self._until - time.monotonic() - self.seconds * _GRACE_SHARE

    def run(self, name: str, command: list[str], limit_s: float) -> dict[str, Any]:
        """Run a part and show its output; interrupt it at its time limit, and kill it some time later."""
        limit_s = min(limit_s, self.left_s)
        if limit_s <= 0:
            return self.skip(name, "no time was left")
        print(f"== {name}, at most {limit_s:.0f} s", flush=True)
        start, interrupted = time.monotonic(), False
        with self._log.open("ab") as log, self._log.open("rb") as shown:
            log.write(f"== {name}: {shlex.join(command)}\n".encode())
            log.flush()
            shown.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                while process.poll() is None:
                    spent_s = time.monotonic() - start
                    if spent_s > limit_s and not interrupted:
                        process.send_signal(signal.SIGINT)
                        interrupted = True
                    if spent_s > limit_s + self.seconds * _GRACE_SHARE:
                        break
                    time.sleep(0.2)
                    print(shown.read().decode(errors="replace"), end="", flush=True)
            finally:
                end_session(process)
            print(shown.read().decode(errors="replace"), end="", flush=True)
        status = "done" if process.returncode == 0 else "out of time" if interrupted else "failed"
        return self._add(
            {
                "name": name,
                "status": status,
                "exit_code": process.returncode,
                "seconds": round(time.monotonic() - start, 1),
            }
        )

    def skip(self, name: str, reason: str) -> dict[str, Any]:
        """Record why a part is skipped."""
        return self._add({"name": name, "status": "skipped", "reason": reason})

    def _add(self, part: dict[str, Any]) -> dict[str, Any]:
        self.report["parts"].append(part)
        print(f"== {part['name']}: {part['status']}{'; ' + part['reason'] if 'reason' in part else ''}", flush=True)
        self.write()
        return part

    def write(self) -> None:
        """Write the report of the parts so far."""
        (self.out / "report.json").write_text(json.dumps(self.report, indent=1) + "\n")

    def close(self) -> None:
        """Write the report, and keep the end of a long log."""
        self.write()
        text = self._log.read_bytes()
        self._log.write_bytes(text[-_LOG_BYTES:])


def end_session(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its descendants."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
