"""The number of cores that this process may use, also in a container."""

import os
from math import ceil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """The cores this process may run on, limited by the CPU quota of its container.

    Args:
        cgroup: the folder of the container's limits, of version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_…`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share(cgroup)
    return cores if share is None else max(1, min(cores, ceil(share)))


def _share(cgroup: Path) -> float | None:
    """The CPU quota in cores; None for no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((cgroup / f"cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max"
    return share if share > 0 else None
