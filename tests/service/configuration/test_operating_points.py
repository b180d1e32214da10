import asyncio
import logging

import pytest
from waiting import soon

from service.configuration.operating_points import OperatingPoints
from service.configuration.store import HISTORY_LENGTH
from service.engine.operating import Change, Target
from service.errors import StoreUnavailableError, VersionConflictError


def to(threshold: float) -> Change:
    return Change(thresholds=(threshold,) * 3, changed_by="alice")


@pytest.fixture
def alone() -> OperatingPoints:
    return OperatingPoints((0.9, 0.8, 0.7))


@pytest.fixture
async def replica(shared):
    """`await replica()`: one of several that share a store."""
    started = []

    async def start() -> OperatingPoints:
        started.append(OperatingPoints((0.9, 0.8, 0.7), shared))
        await started[-1].start()
        return started[-1]

    yield start
    for points in started:
        await points.close()


async def test_change_counts_versions_and_remembers_the_old_ones(alone) -> None:
    told = []
    alone.on_change = told.append
    before = alone.current
    change = Change(thresholds=(0.1, 0.2, 0.3), target=Target("fraction", 0.4), changed_by="bob")
    after = await alone.change(change)

    assert (before.version, before.thresholds, before.changed_by) == (1, (0.9, 0.8, 0.7), "model")
    assert (after.version, after.thresholds, after.target) == (2, (0.1, 0.2, 0.3), Target("fraction", 0.4))
    assert after.changed_by == "bob"
    assert alone.current is after
    assert alone.history == (before, after)
    assert told == [(before, after)]


@pytest.mark.parametrize("versions", [[1, 3], []])
async def test_change_with_a_stale_version_raises_and_leaves_the_configuration(alone, versions) -> None:
    await alone.change(to(0.5))
    with pytest.raises(VersionConflictError, match="at version 2, not"):
        await alone.change(to(0.4), if_version=versions)
    assert alone.current.thresholds == (0.5,) * 3


async def test_change_many_times_only_the_last_versions_are_remembered(alone) -> None:
    for number in range(HISTORY_LENGTH + 5):
        await alone.change(to(number / 100))

    assert len(alone.history) == HISTORY_LENGTH
    assert alone.current.version == HISTORY_LENGTH + 6


@pytest.mark.parametrize(("if_version", "made"), [([1], [2]), (None, [2, 3, 4])])
async def test_change_at_once_with_one_version_one_wins_without_all_follow(replica, if_version, made) -> None:
    replicas = [await replica() for _ in range(3)]
    results = await asyncio.gather(
        *(points.change(to(0.5), if_version=if_version) for points in replicas), return_exceptions=True
    )

    refused = [result for result in results if isinstance(result, VersionConflictError)]
    assert len(refused) == 3 - len(made)
    assert sorted(result.version for result in results if result not in refused) == made


async def test_change_when_somebody_is_always_faster_gives_up(replica, shared) -> None:
    points = await replica()

    def outrun() -> None:
        shared.history = (*points.history, points.current.changed(to(0.1)))

    shared.before_replace = outrun
    with pytest.raises(VersionConflictError, match="5 times"):
        await points.change(to(0.5))


async def test_change_at_one_replica_comes_to_the_others_and_to_one_that_starts_later(replica) -> None:
    first, second = await replica(), await replica()
    told = []
    second.on_change = told.append
    point = await first.change(to(0.25))

    await soon(lambda: second.current == point)
    assert told == [first.history]
    assert (await replica()).history == first.history


async def test_change_over_a_version_this_replica_has_not_seen_yet_builds_on_it(replica, shared) -> None:
    first, second = await replica(), await replica()
    shared.error = "gone"
    await soon(lambda: not second.stored)  # no poll can bring the next version
    shared.error = None
    await first.change(to(0.5))

    assert (await second.change(to(0.25), if_version=[2])).version == 3


async def test_store_gone_last_configuration_stays_and_changes_are_refused(replica, shared, caplog) -> None:
    points = await replica()
    assert shared.history is None, "the model's own is never stored"
    point = await points.change(to(0.25))
    shared.error = "gone fishing"
    await soon(lambda: not points.stored)
    before = shared.reads
    await soon(lambda: shared.reads > before + 3)

    with pytest.raises(StoreUnavailableError, match="gone fishing"):
        await points.change(to(0.5))
    assert points.current is point
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["version 2 of the configuration stays in force: gone fishing"]


@pytest.mark.parametrize("forgotten", [1, 2])
async def test_store_back_with_nothing_or_less_is_told_what_holds(replica, shared, caplog, forgotten) -> None:
    caplog.set_level(logging.INFO)
    points, other = await replica(), await replica()
    await points.change(to(0.25))
    older = shared.history
    await points.change(to(0.5))
    await soon(lambda: other.current.version == 3)
    shared.error = "gone"
    await soon(lambda: not points.stored and not other.stored)
    shared.history, shared.error = (older if forgotten == 1 else None), None

    await soon(lambda: points.stored and other.stored)
    await soon(lambda: shared.history == points.history == other.history)
    assert points.current.thresholds == (0.5,) * 3
    assert "the configuration's store is back, version 3 is in force" in caplog.messages


async def test_store_with_another_change_of_the_same_version_has_the_last_word(replica, shared) -> None:
    points = await replica()
    await points.change(to(0.25))
    shared.history = other = (shared.history[0], shared.history[0].changed(to(0.5)))

    await soon(lambda: points.history == other)
    assert shared.history == other


async def test_store_gone_at_the_start_the_models_own_holds_until_it_is_back(replica, shared, make_history) -> None:
    shared.error = "not there yet"
    points = await replica()
    assert (points.current.version, points.current.thresholds, points.stored) == (1, (0.9, 0.8, 0.7), False)

    shared.history, shared.error = make_history(1, 9), None
    await soon(lambda: points.current.version == 9)
    assert points.stored


async def test_start_with_a_store_that_will_not_last_warns(replica, shared, caplog) -> None:
    shared.durable = False

    assert not (await replica()).stored
    assert "changes of the configuration will not survive a restart: its file cannot be written" in caplog.messages
