"""Makes the allocator keep freed memory for the next batch instead of returning it to the operating system."""

import ctypes

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER_TRIM = -1


def keep_freed_memory(max_bytes: int | None = None) -> bool:
    """Make this process's allocator reuse large blocks, for as long as it lives.

    A batch of the last stage allocates and frees tens of megabytes per layer, a training step gigabytes. By default
    the C library returns freed memory at once, and the kernel zeroes the pages again. This takes up to a fifth of a
    batch's time and half of a large training step's. The arenas of other threads cannot grow beyond 64 MiB, so all
    threads share one arena.

    Args:
        max_bytes: the most that is kept at the end of the heap, below 2^31; None for no limit.

    Returns:
        Whether the C library accepted the settings; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER_TRIM if max_bytes is None else max_bytes}
    taken = [mallopt(option, value) == 1 for option, value in options.items()]
    return all(taken)
