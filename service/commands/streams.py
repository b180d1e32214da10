"""The standard streams of a process that was started without some of them."""

import os
import sys
from io import TextIOWrapper

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def open_standard_streams() -> None:
    """Lead standard streams that are closed to nowhere, in this process and those it starts.

    Otherwise the next file or socket that is opened takes the place of one, is read and written as such, and libuv
    aborts when it is closed. Characters that standard output cannot encode are escaped.
    """
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            # Takes the lowest descriptor that is free: the one that is missing.
            stream = open(os.devnull, mode)  # noqa: SIM115 - open until the end
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    # As standard error does by itself: one such character is no reason to lose all the rest.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
