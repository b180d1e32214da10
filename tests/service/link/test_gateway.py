import asyncio
from collections import deque

import pytest
from engine_fakes import hold, pixels, policy
from waiting import soon

from service.engine.engine import EngineState
from service.engine.operating import Change
from service.errors import DeviceLostError, VersionConflictError
from service.link import gateway as gateway_module
from service.link.messages import State
from service.link.remote import RemoteOperatingPoints


def changed(remote, threshold, **options):
    change = Change(thresholds=(threshold,) * 3, changed_by="alice")
    return RemoteOperatingPoints(remote).change(change, **options)


async def test_gateway_images_of_two_front_ends_share_the_engine_and_each_gets_its_own(together) -> None:
    first, second = await together.connect(), await together.connect()
    together.runner.gate.clear()
    sent = [(remote.submit(pixels(tag % 4, tag), policy()), tag) for tag in range(40) for remote in (first, second)]
    together.runner.gate.set()

    for task, tag in sent:
        prediction = (await together.outcome(task)).prediction
        assert (prediction.indices, prediction.stage) == ((tag,), tag % 4)
    assert max(len(ids) for _, ids in together.runner.batches) == 4


async def test_gateway_ends_noted_on_two_threads_at_once_are_reported(together, monkeypatch) -> None:
    class Interleaved(deque):
        """After the first append and before its thread goes on, another thread notes an end completely."""

        def append(self, item) -> None:
            super().append(item)
            if len(self) == 1 and held:
                noted(*held.pop())

    held, both = [], []
    remote = await together.connect()
    (connection,) = together.gateway._connections
    connection._ended = Interleaved()
    noted = connection._note_end

    def note(task_id, future) -> None:
        both.append((task_id, future))
        if len(both) == 2:
            held.append(both[1])
            noted(*both[0])

    monkeypatch.setattr(connection, "_note_end", note)
    tasks = [remote.submit(pixels(0, tag), policy()) for tag in (1, 2)]
    answers = await asyncio.gather(*map(together.outcome, tasks))
    assert sorted(answer.prediction.indices[0] for answer in answers) == [1, 2]


async def test_gateway_front_end_dies_its_images_are_cancelled_and_the_other_is_unharmed(together) -> None:
    dying, other = await together.connect(), await together.connect()
    other.counts.images_presented(1)
    hold(together.runner, together.engine)
    dying.counts.images_presented(5)
    for tag in range(3):  # two more of the five are still being decoded
        dying.submit(pixels(3, tag), policy())
    other.counts.images_presented(1)
    task = other.submit(pixels(3, 99), policy())
    await soon(lambda: sum(together.engine.queue_depths()) == 4)
    await dying.close()
    assert not together.served[0].done()
    together.runner.gate.set()
    await asyncio.wait_for(together.served[0], 5)

    assert (await together.outcome(task)).prediction.indices == (99,)
    assert together.metric("dvt_cancelled_total", where="decode") == 2
    assert together.metric("dvt_cancelled_total", where="queue") == 3
    assert together.images_are_accounted_for()
    assert together.runner.kept == {}


async def test_gateway_configure_holds_in_every_front_end_and_one_of_two_writers_is_told(together) -> None:
    first, second = await together.connect(), await together.connect()
    results = await asyncio.gather(
        changed(first, 0.25, if_version=[1]), changed(second, 0.5, if_version=[1]), return_exceptions=True
    )

    point, conflict = sorted(results, key=lambda result: isinstance(result, Exception))
    assert isinstance(conflict, VersionConflictError)
    assert (point.version, point.thresholds) == (2, (0.25, 0.25, 0.25))
    assert first.configuration == second.configuration == together.points.history
    assert RemoteOperatingPoints(first).current == RemoteOperatingPoints(second).history[-1] == point
    with pytest.raises(VersionConflictError, match="at version 2, not 1"):
        await changed(first, 0.3, if_version=[1])


@pytest.mark.parametrize("second_dies", [True, False])
async def test_gateway_configure_waits_for_a_front_end_until_it_dies_or_is_too_slow(
    together, monkeypatch, second_dies
) -> None:
    first, second = await together.connect(), await together.connect()
    monkeypatch.setattr(gateway_module, "_SEEN_TIMEOUT_S", 60.0 if second_dies else 0.1)
    monkeypatch.setattr(second, "_handle", lambda message: None)  # never confirms
    change = asyncio.create_task(changed(first, 0.25))
    await asyncio.sleep(0.02)
    assert not change.done()
    if second_dies:
        await second.close()

    assert (await asyncio.wait_for(change, 5)).version == 2


async def test_gateway_scrape_sees_what_its_front_end_has_just_counted(together) -> None:
    remote = await together.connect()
    remote.counts.images_presented(3)
    remote.counts.image_rejected("undecodable", 3)
    remote.counts.request_done(400, 0.01)

    text = (await remote.scrape()).decode()

    assert "dvt_images_total 3.0" in text
    assert 'dvt_rejected_total{reason="undecodable"} 3.0' in text
    assert 'dvt_requests_total{code="400"} 1.0' in text
    assert (await remote.scrape("application/openmetrics-text")).endswith(b"# EOF\n")
    assert together.images_are_accounted_for()


async def test_gateway_state_reaches_every_front_end_and_death_ends_it(together) -> None:
    remotes, lost = [await together.connect(), await together.connect()], []
    for remote in remotes:
        remote.on_lost = lambda: lost.append(True)
    together.gateway.broadcast(State(EngineState.DRAINING))
    await soon(lambda: all(remote.state is EngineState.DRAINING for remote in remotes))
    assert lost == []

    together.gateway.broadcast(State(EngineState.DEAD))
    await soon(lambda: len(lost) == 2)


async def test_gateway_dead_engine_fails_what_is_in_flight(together) -> None:
    def fault(stage, tasks):
        raise DeviceLostError("the accelerator failed")

    remote = await together.connect()
    together.runner.fault = fault

    with pytest.raises(DeviceLostError):
        await together.outcome(remote.submit(pixels(0), policy()))
    assert together.gateway.tell_of_state() is EngineState.DEAD
    await soon(lambda: remote.state is EngineState.DEAD)


async def test_gateway_front_end_that_stands_still_is_reported_after_ten_beats(together, monkeypatch) -> None:
    monkeypatch.setattr("service.link.pulse.BEAT_S", 0.01)
    monkeypatch.setattr("service.link.remote.beat", lambda _: asyncio.sleep(3600))
    monkeypatch.setattr("service.link.remote._REPORT_INTERVAL_S", 3600)
    silences = []
    await together.connect(on_silence=lambda: silences.append(asyncio.get_running_loop().time()))
    connected_at = asyncio.get_running_loop().time()
    await soon(lambda: silences)
    assert silences[0] - connected_at >= 0.1
