"""The number of cores that this process may use, also in a container."""

import os
from contextlib import suppress
from math import ceil
from pathlib import Path

# The CPU quota of a container and its period, by version of cgroups.
_LIMITS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores this process may run on, limited by the CPU quota of its container.

    Args:
        cgroup: the folder of the container's limits.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in _LIMITS:
        # Without a limit there is no file, or it says "max" or -1.
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = map(float, " ".join((cgroup / name).read_text() for name in names).split())
            if quota / period > 0:
                return min(cores, ceil(quota / period))
    return cores
