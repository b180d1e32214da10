"""Detects that the process at the other end of a channel stands still: each end sends a beat every second."""

import asyncio
from collections.abc import Callable
from typing import Any

from service.link.channel import Channel
from service.link.messages import Beat

BEAT_S = 1.0
_CHECKS_PER_BEAT = 4
_PATIENCE = 3


async def beat(channel: Channel[Any]) -> None:
    """Send beats until cancelled."""
    while True:
        channel.send(Beat())
        await asyncio.sleep(BEAT_S)


class Pulse:
    """Calls `on_silence` when nothing was heard from the other process for some beats.

    Args:
        patience: number of missed beats.

    Attributes:
        silent: whether so many beats were missed and nothing was heard since.
    """

    def __init__(self, on_silence: Callable[[], object], patience: int = _PATIENCE) -> None:
        self.silent = False
        self._on_silence = on_silence
        self._patience = patience
        self._quiet_checks = 0

    def heard(self) -> None:
        """A message arrived."""
        self._quiet_checks = 0
        self.silent = False

    async def watch(self) -> None:
        """Check until cancelled.

        Counts checks instead of seconds: while this process itself stood still, it did not check.
        """
        while True:
            await asyncio.sleep(BEAT_S / _CHECKS_PER_BEAT)
            self._quiet_checks += 1
            if self._quiet_checks > self._patience * _CHECKS_PER_BEAT and not self.silent:
                self.silent = True
                self._on_silence()
