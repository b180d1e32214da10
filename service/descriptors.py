"""How many files and connections the operating system lets this process have open."""

import logging
import resource

_logger = logging.getLogger(__name__)

_OTHERS = 256
"""Open beside connections: libraries, model files, channels, devices."""


def make_room(max_connections: int) -> None:
    """Raise this process's own limit, and that of processes it starts, until so many connections fit in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < wanted:
        _logger.warning(
            "%d open files are allowed here, too few for DVT_MAX_CONNECTIONS=%d; lower it, or raise ulimit -n",
            limit,
            max_connections,
        )
