"""Keeps what lives as long as the process out of the garbage collector's way."""

import gc

# By default (700) a front end under load spends a sixth of its time on looking through the requests under way, up to
# 50 ms at a time, in which nobody is answered. They leave nothing to find: see tests/service/http/test_garbage.py.
_YOUNG_OBJECTS = 50_000


def settle_heap() -> None:
    """Leave everything that exists now out of all further collections, which become rarer; call it once, at the start.

    The libraries alone are 200,000 objects, and going through them takes a quarter of a second, in which nothing is
    answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
