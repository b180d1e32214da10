"""Ctrl-C and a request to end, noticed where a run can stop and go on later."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818  # not an error: the run goes on later
    """A run was asked to stop, and is at a place from which it can go on."""


class Interruption:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Stop here, if that was asked for.

        Raises:
            Interrupted: then.
        """
        if self.requested:
            raise Interrupted


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Note SIGINT and SIGTERM while the block runs, so that no step is cut in half; a second one acts as usual."""
    interruption = Interruption()
    previous = {int(each): signal.getsignal(each) for each in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.requested:
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        interruption.requested = True

    for each in _SIGNALS:
        signal.signal(each, note)
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
