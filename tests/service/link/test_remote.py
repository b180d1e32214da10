import asyncio
import time

import pytest
from engine_fakes import pixels, policy
from waiting import soon

from service.engine.engine import EngineState
from service.engine.operating import Change
from service.errors import (
    DeadlineExceededError,
    DeviceLostError,
    NotReadyError,
    OverloadedError,
    TooLargeError,
)
from service.link.messages import Beat, Counted, Submit


async def test_admit_counts_what_other_front_ends_admitted(together) -> None:
    first, second = await together.connect(), await together.connect()
    permits = first.admit(6)

    with pytest.raises(OverloadedError, match="no room for 3 more: 6 of 8"):
        second.admit(3)
    second.admit(2).release(2)
    permits.release(6)
    held = second.admit(8)
    assert first.inflight == 8
    held.release(8)
    assert together.permits == [0, 0]


async def test_admit_refusals_are_counted_by_reason(together) -> None:
    remote = await together.connect()
    with pytest.raises(TooLargeError):
        remote.admit(9)
    remote.admit(8)
    with pytest.raises(OverloadedError):
        remote.admit(2)
    remote.reported = EngineState.STARTING
    with pytest.raises(NotReadyError, match="the engine is starting"):
        remote.admit(1)
    await remote.scrape()

    reasons = ("too_large", "full", "not_ready")
    assert [together.metric("dvt_rejected_total", reason=reason) for reason in reasons] == [9, 2, 1]


async def test_submit_reports_what_was_counted_before_the_image(together, monkeypatch) -> None:
    remote, sent = await together.connect(), []
    monkeypatch.setattr(remote._channel, "send", sent.append)
    remote.counts.images_presented(1)
    remote.submit(pixels(0), policy())
    assert [type(message) for message in sent] == [Counted, Submit]


async def test_submit_refusal_by_the_engine_ends_the_image(together) -> None:
    remote = await together.connect()
    together.engine.stop(drain=False, timeout_s=5)

    with pytest.raises(NotReadyError, match="the engine is stopped"):
        await together.outcome(remote.submit(pixels(0), policy()))
    assert together.metric("dvt_rejected_total", reason="not_ready") == 1


async def test_engine_process_gone_everything_in_flight_ends_and_nothing_more_is_taken(together) -> None:
    remote, lost = await together.connect(), []
    remote.on_lost = lambda: lost.append(True)
    together.runner.gate.clear()
    permits = remote.admit(1)
    task = remote.submit(pixels(3), policy())
    change = asyncio.create_task(remote.configure(Change(thresholds=(0.1, 0.1, 0.1), changed_by="alice"), (1,)))
    await together.channels[0].close()

    with pytest.raises(DeviceLostError, match="the engine process is gone"):
        await together.outcome(task)
    with pytest.raises(NotReadyError, match="the engine process is gone"):
        await asyncio.wait_for(change, 5)
    permits.release()
    assert (remote.state, remote.inflight, lost) == (EngineState.DEAD, 0, [True])
    with pytest.raises(NotReadyError):
        remote.admit(1)
    with pytest.raises(NotReadyError):
        remote.submit(pixels(0), policy())
    with pytest.raises(NotReadyError):
        await remote.scrape()


async def test_engine_process_stands_still_everything_ends_and_it_may_come_back(together, monkeypatch) -> None:
    monkeypatch.setattr("service.link.pulse.BEAT_S", 0.01)
    monkeypatch.setattr("service.link.gateway.beat", lambda _: asyncio.sleep(3600))
    remote = await together.connect()
    together.runner.gate.clear()
    task = remote.submit(pixels(3), policy())

    with pytest.raises(DeviceLostError, match="the engine process does not answer"):
        await together.outcome(task)
    assert (remote.state, remote.inflight) == (EngineState.DEAD, 1), "the engine still has it"
    with pytest.raises(NotReadyError):
        remote.admit(1)
    monkeypatch.setattr("service.link.pulse.BEAT_S", 60.0)
    together.runner.gate.set()
    together.gateway.broadcast(Beat())
    await soon(lambda: remote.state is EngineState.READY and remote.inflight == 0)


async def test_engine_process_that_runs_is_heard_though_it_has_nothing_to_say(together, monkeypatch) -> None:
    monkeypatch.setattr("service.link.pulse.BEAT_S", 0.03)
    remote = await together.connect()
    for _ in range(30):
        await asyncio.sleep(0.01)
        assert remote.state is EngineState.READY


async def test_submit_deadline_holds_though_the_engine_does_not_answer(together, monkeypatch) -> None:
    monkeypatch.setattr("service.link.remote._OVERDUE_S", 0.01)
    remote = await together.connect()
    together.runner.gate.clear()
    permits = remote.admit(1)
    task = remote.submit(pixels(3), policy(deadline=time.monotonic() + 0.05))
    with pytest.raises(DeadlineExceededError, match="did not answer by the deadline"):
        await together.outcome(task)
    permits.release()
    assert remote.inflight == 1, "the engine still has it"
    together.runner.gate.set()
    await soon(lambda: remote.inflight == 0)
    later = remote.submit(pixels(0), policy(deadline=time.monotonic() + 30))
    assert (await together.outcome(later)).prediction.stage == 0


async def test_counts_take_is_empty_when_nothing_happened(together) -> None:
    remote = await together.connect()

    assert remote.counts.take() is None
    remote.counts.image_cancelled("decode", 2)
    remote.counts.image_cancelled("decode", 1)
    counted = remote.counts.take()
    assert counted is not None
    assert counted.cancelled == {"decode": 3}
    assert remote.counts.take() is None
