import asyncio
from collections import deque

import pytest
from engine_fakes import hold, pixels, policy

from service.engine.engine import EngineState
from service.engine.operating import Change
from service.errors import DeviceLostError, InferenceError, VersionConflictError
from service.link import gateway as gateway_module
from service.link.messages import State
from service.link.remote_points import RemoteOperatingPoints


def _to(threshold):
    return Change(thresholds=(threshold,) * 3, changed_by="alice")


async def outcome(task):
    return await asyncio.wrap_future(task.future)


async def test_gateway_images_of_two_front_ends_share_the_engine_and_each_gets_its_own(together) -> None:
    first, second = await together.connect(), await together.connect()
    together.runner.gate.clear()
    sent = [(remote.submit(pixels(tag % 4, tag), policy()), tag) for tag in range(40) for remote in (first, second)]
    together.runner.gate.set()

    for task, tag in sent:
        answer = await outcome(task)
        assert answer.prediction.indices == (tag,)
        assert answer.prediction.stage == tag % 4
    assert max(len(ids) for _, ids in together.runner.batches) == 4


async def test_gateway_ends_noted_on_two_threads_at_once_are_reported(together, monkeypatch) -> None:
    class Interleaved(deque):
        """Whatever is added first, another thread adds before this one has gone on."""

        def append(self, item) -> None:
            super().append(item)
            if len(self) == 1 and held:
                noted(*held.pop())

    noted, held, both = None, [], []
    connections = []
    init = gateway_module._Connection.__init__

    def spied(self, *args) -> None:
        init(self, *args)
        self._ended = Interleaved()
        connections.append(self)

    monkeypatch.setattr(gateway_module._Connection, "__init__", spied)
    remote = await together.connect()
    (connection,) = connections
    noted = connection._note_end

    def note(task_id, future) -> None:
        both.append((task_id, future))
        if len(both) == 2:
            held.append(both[1])
            noted(*both[0])

    monkeypatch.setattr(connection, "_note_end", note)
    tasks = [remote.submit(pixels(0, tag), policy()) for tag in (1, 2)]
    answers = await asyncio.wait_for(asyncio.gather(*map(outcome, tasks)), 5)
    assert sorted(answer.prediction.indices[0] for answer in answers) == [1, 2]


async def test_gateway_failed_image_fails_alone(together) -> None:
    def fault(stage, tasks):
        if any(task.pixels[1, 0, 0] == 13 for task in tasks):
            raise ValueError("a secret detail")

    together.runner.fault = fault
    remote = await together.connect()
    bad, good = remote.submit(pixels(0, 13), policy()), remote.submit(pixels(0, 14), policy())

    assert (await outcome(good)).prediction.indices == (14,)
    with pytest.raises(InferenceError, match="stage 0 could not be computed"):
        await outcome(bad)


async def test_gateway_front_end_dies_its_images_are_cancelled_and_the_other_is_unharmed(together, eventually) -> None:
    dying, other = await together.connect(), await together.connect()
    other.counts.images_presented(1)
    hold(together.runner, together.engine)
    dying.counts.images_presented(5)
    with dying.admit(5):
        for tag in range(3):  # two more of the five are still being decoded
            dying.submit(pixels(3, tag), policy())
        other.counts.images_presented(1)
        task = other.submit(pixels(3, 99), policy())
        await eventually(lambda: sum(together.engine.queue_depths()) == 4)
        await dying.close()
        assert not together.served[0].done()
        together.runner.gate.set()
        await asyncio.wait_for(together.served[0], 5)

    assert (await outcome(task)).prediction.indices == (99,)
    assert together.total("dvt_cancelled_total") == 5
    assert together.metric("dvt_cancelled_total", where="decode") == 2
    assert together.images_are_accounted_for()
    assert together.runner.kept == {}


async def test_gateway_configure_holds_in_every_front_end_when_it_returns(together) -> None:
    first, second = await together.connect(), await together.connect()

    point = await RemoteOperatingPoints(first).change(_to(0.25), if_version=[1])

    assert (point.version, point.thresholds) == (2, (0.25, 0.25, 0.25))
    assert first.configuration == second.configuration == together.points.history
    assert first.configuration[-1] == point


async def test_gateway_two_writers_one_wins_and_the_other_is_told(together) -> None:
    first, second = await together.connect(), await together.connect()

    results = await asyncio.gather(
        RemoteOperatingPoints(first).change(_to(0.1), if_version=[1]),
        RemoteOperatingPoints(second).change(_to(0.2), if_version=[1]),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["OperatingPoint", "VersionConflictError"]
    with pytest.raises(VersionConflictError, match="at version 2, not 1"):
        await RemoteOperatingPoints(first).change(_to(0.3), if_version=[1])


async def test_gateway_configure_does_not_wait_for_a_front_end_that_died(together, monkeypatch) -> None:
    first, second = await together.connect(), await together.connect()
    monkeypatch.setattr("service.link.gateway._SEEN_TIMEOUT_S", 60.0)
    monkeypatch.setattr(second, "_handle", lambda message: None)  # never confirms
    change = asyncio.create_task(RemoteOperatingPoints(first).change(_to(0.25)))
    await asyncio.sleep(0.02)
    assert not change.done()
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


async def test_gateway_state_reaches_every_front_end(together, eventually) -> None:
    remotes = [await together.connect(), await together.connect()]
    together.gateway.broadcast(State(EngineState.DRAINING))

    await eventually(lambda: all(remote.state is EngineState.DRAINING for remote in remotes))


async def test_gateway_death_of_the_engine_ends_the_front_ends(together, eventually) -> None:
    remote = await together.connect()
    lost = []
    remote.on_lost = lambda: lost.append(True)
    together.gateway.broadcast(State(EngineState.DEAD))

    await eventually(lambda: lost)


async def test_gateway_dead_engine_fails_what_is_in_flight(together) -> None:
    def fault(stage, tasks):
        raise DeviceLostError("the accelerator failed")

    remote = await together.connect()
    together.runner.fault = fault

    with pytest.raises(DeviceLostError):
        await outcome(remote.submit(pixels(0), policy()))
