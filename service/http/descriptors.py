"""How many files and connections the operating system lets this process have open."""

import logging
import os
import resource

_logger = logging.getLogger(__name__)

_OTHERS = 256
"""Open beside connections: libraries, model files, channels, devices."""


_HELD_BACK = 64
"""Of a server's descriptors: to listen with, for its event loop and files, and for connections that make room."""


def make_room(max_connections: int) -> None:
    """Raise this process's own limit, and that of processes it starts, until so many connections fit in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def affordable_connections(wanted: int) -> int:
    """As many of the wanted connections as this process has descriptors for, at least one; to be asked before serving.

    Where descriptors run out, a connection is closed as soon as it comes, a probe's as well. Where the limit on
    connections is reached first, the most silent one makes room.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    affordable = max(1, soft - len(os.listdir("/dev/fd")) - _HELD_BACK)
    if affordable < wanted:
        _logger.warning(
            "%d open files are allowed here, too few for DVT_MAX_CONNECTIONS=%d; this process holds at most %d "
            "connections: raise ulimit -n",
            *(soft, wanted, affordable),
        )
    return min(affordable, wanted)
