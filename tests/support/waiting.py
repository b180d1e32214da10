"""Waiting for what another thread, task or process is about to do."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 60


def eventually(condition: Callable[[], object], what: object = "", within_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; fail when it never does.

    Args:
        what: told when it fails; called then, if it can be.
    """
    end, pause_s = time.monotonic() + within_s, 0.002
    while not condition():
        assert time.monotonic() < end, f"did not happen within {within_s} s: {what() if callable(what) else what}"
        time.sleep(pause_s)
        # What takes long, as the start of a process, is not to be slowed down by being asked for.
        pause_s = min(1.2 * pause_s, 0.05)


async def soon(condition: Callable[[], object], within_s: float = 5) -> None:
    """The same for what other tasks of the event loop do."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
