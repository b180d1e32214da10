"""Keeps what lives as long as the process out of the garbage collector's way."""

import gc


def settle_heap() -> None:
    """Leave everything that exists now out of all further collections; call it once, when a process has started.

    The libraries alone are 200,000 objects, and going through them takes a quarter of a second, in which nothing is
    answered.
    """
    gc.collect()
    gc.freeze()
