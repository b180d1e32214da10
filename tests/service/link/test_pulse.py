from types import coroutine

import pytest

from service.link.pulse import Pulse


@coroutine
def until_resumed(_: float):
    yield


def test_watch_three_missed_beats_are_silence_and_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.sleep", until_resumed)
    silences: list[str] = []
    pulse = Pulse(lambda: silences.append("silent"))
    watching = pulse.watch()

    def check(times: int) -> None:
        for _ in range(times):
            watching.send(None)

    check(1)  # sleeps
    for number in (1, 2):
        check(12)
        assert (len(silences), pulse.silent) == (number - 1, False)
        check(5)
        assert (len(silences), pulse.silent) == (number, True)
        pulse.heard()
        assert not pulse.silent
    watching.close()
