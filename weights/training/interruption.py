"""Handles SIGINT and SIGTERM at points from which a run can continue later."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818  # not an error: the run goes on later
    """A run was asked to stop, and has reached a point from which it can continue."""


class Interruption:
    """Whether the run was asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise `Interrupted` if the run was asked to stop.

        Raises:
            Interrupted: then.
        """
        if self.requested:
            raise Interrupted


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Record SIGINT and SIGTERM while the block runs, so that no step is cut short; a second signal acts as usual."""
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
