"""Whether the process at the other end of a channel still runs: each sends a beat every second."""

import asyncio
from collections.abc import Callable

BEAT_S = 1.0
_LOOKS_PER_BEAT = 4
_PATIENCE = 3


class Pulse:
    """Notices that the other process was not heard for some beats.

    Args:
        on_silence: called once so many beats were missed.
        patience: how many.

    Attributes:
        silent: whether they were, and nothing was heard since.
    """

    def __init__(self, on_silence: Callable[[], None], patience: int = _PATIENCE) -> None:
        self.silent = False
        self._on_silence = on_silence
        self._patience = patience
        self._quiet_looks = 0

    def heard(self) -> None:
        """A message arrived."""
        self._quiet_looks = 0
        self.silent = False

    async def watch(self) -> None:
        """Look at it until cancelled.

        Looks are counted, not seconds: where this process itself stood still, it has not looked.
        """
        while True:
            await asyncio.sleep(BEAT_S / _LOOKS_PER_BEAT)
            self._quiet_looks += 1
            if self._quiet_looks > self._patience * _LOOKS_PER_BEAT and not self.silent:
                self.silent = True
                self._on_silence()
