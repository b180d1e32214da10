import asyncio

import pytest

from service.link import pulse as module
from service.link.pulse import Pulse


@pytest.fixture
def silences(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(module, "BEAT_S", 0.004)
    return []


async def test_watch_three_missed_beats_are_silence_and_said_once(silences, eventually) -> None:
    pulse = Pulse(lambda: silences.append("silent"))
    watching = asyncio.create_task(pulse.watch())
    await eventually(lambda: pulse.silent)
    await asyncio.sleep(0.05)
    assert silences == ["silent"]

    pulse.heard()
    assert not pulse.silent
    await eventually(lambda: pulse.silent)
    assert silences == ["silent"] * 2
    watching.cancel()


async def test_watch_standing_still_itself_is_no_silence(silences, monkeypatch) -> None:
    looks = 0

    async def long(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks > 12:
            raise asyncio.CancelledError

    monkeypatch.setattr(module.asyncio, "sleep", long)
    pulse = Pulse(lambda: silences.append("silent"))
    with pytest.raises(asyncio.CancelledError):
        await pulse.watch()
    assert (looks, silences) == (13, [])
