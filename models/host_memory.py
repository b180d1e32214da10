"""Keeps the memory of one batch for the next, instead of handing it back to the operating system in between."""

import ctypes

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER_TRIM = -1


def keep_freed_memory(max_bytes: int | None = None) -> bool:
    """Make this process's allocator reuse large blocks, for as long as it lives.

    A batch of the last stage frees and takes tens of megabytes a layer, a training step gigabytes. By default the
    C library returns them at once, and the kernel zeroes them again page by page, which costs up to a fifth of a
    batch and half of a large training step. Other threads' arenas cannot grow beyond 64 MiB, hence a single one.

    Args:
        max_bytes: what may be kept at the end of the heap, below 2^31; None for everything.

    Returns:
        Whether the C library could be told, which is the case for glibc only.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER_TRIM if max_bytes is None else max_bytes}
    taken = [mallopt(option, value) == 1 for option, value in options.items()]
    return all(taken)
