"""How many cores this process may use, which in a container are fewer than the machine has."""

import os
from math import ceil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """The cores it may run on, and no more than the time its container gets on them.

    Args:
        cgroup: where the container's limits are, in the form of version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_…`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share(cgroup)
    return cores if share is None else max(1, min(cores, ceil(share)))


def _share(cgroup: Path) -> float | None:
    """Seconds of computing for every second, None for no limit: a quota in each period."""
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
