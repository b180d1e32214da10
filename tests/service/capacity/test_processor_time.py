"""Processor time of a process and what it started."""

import subprocess
import sys

from service.capacity.processor_time import cpu_s, family


def test_family_and_cpu_s_are_of_a_process_and_what_it_started():
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(sum(range(10**6))); input()'])"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        members = family(process.pid)
        used = cpu_s(members)

    assert process.pid in members
    assert len(members) == 2
    assert used > 0
