"""The number of files and connections that the operating system lets this process have open."""

import logging
import os
import resource

_logger = logging.getLogger(__name__)

_OTHERS = 256
"""Descriptors for all but connections: libraries, model files, channels, devices."""
_HELD_BACK = 64
"""A server's descriptors that no connection gets: its listeners, event loop, files, and connections about to close."""


def make_room(max_connections: int) -> None:
    """Raise the limit of this process and its children to hold so many connections, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def affordable_connections(wanted: int) -> int:
    """The wanted number of connections, or fewer if this process has too few descriptors; call it before serving.

    Without descriptors, every new connection is closed at once, even a probe's. With a limit on connections that is
    reached first, the most silent connection is closed instead.
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
