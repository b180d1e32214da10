import subprocess
import sys

import pytest

from service.replica.process import child_environment

SCRIPT = """
import os, subprocess, sys
from service.commands.terminal import open_standard_streams

open_standard_streams()
print("read", repr(sys.stdin.read()))
print("nobody reads this", file=sys.stderr)
opened = os.open(os.devnull, os.O_RDONLY)
child = "import sys; sys.exit(sys.stdin is None or sys.stdout is None or sys.stderr is None)"
sys.exit(opened < 3 or subprocess.run([sys.executable, "-c", child]).returncode)
"""


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_open_standard_streams_those_closed_lead_nowhere_here_and_in_children(closed) -> None:
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    assert (result.returncode, result.stderr) == (0, b"" if "2>&-" in closed else b"nobody reads this\n")
    assert result.stdout == (b"" if ">&-" in closed.replace("2>&-", "") else b"read ''\n")
