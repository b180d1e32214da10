"""A stored configuration meets other weights than those it was set for: on one replica, and on several."""

import json
import logging
import threading

import fakeredis
import numpy as np
import pytest
from waiting import soon

from service.configuration.adaptation import Adaptation
from service.configuration.file_store import FileStore
from service.configuration.forecast import Forecast
from service.configuration.operating_points import OperatingPoints
from service.configuration.redis_store import RedisStore
from service.engine.operating import Change, Target
from weights.calibration.table import CalibrationTable

STAGE_MACS = (100, 300, 900, 2700)
OWN = {"old": (0.9, 0.8, 0.7), "new": (0.6, 0.5, 0.4), "poor": (0.3, 0.2, 0.1)}
SURE = {"old": 0.9, "new": 0.6, "poor": 0.9}
RIGHT = {"old": (5, 8, 10, 10), "new": (5, 8, 10, 10), "poor": (1, 2, 3, 4)}
"""Of ten images, for each exit: as many it is sure of, and these it answers right."""
TARGET = Target("accuracy", 0.8)


def forecast(weights: str) -> Forecast:
    correct = np.array([[image < right for image in range(10)] for right in RIGHT[weights]])
    confidence = np.where(correct, SURE[weights], 0.05).astype(np.float32)
    return Forecast(CalibrationTable(confidence, correct), STAGE_MACS, 4000)


def solved(weights: str) -> tuple[float, ...]:
    return forecast(weights).solve(TARGET)


def change(weights: str, target: Target | None = None) -> Change:
    return Change(thresholds=(0.55,) * 3 if target is None else solved(weights), target=target, changed_by="alice")


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


@pytest.fixture(params=["file", "redis"])
def make_store(request, tmp_path):
    """`make_store()`: what one process has of a store that all of them share."""
    server = fakeredis.FakeServer()
    if request.param == "file":
        return lambda: FileStore(tmp_path / "config.json", model="a", num_stages=4)
    return lambda: RedisStore(fakeredis.FakeAsyncRedis(server=server), model="a", num_stages=4)


@pytest.fixture
async def start(make_store):
    """`await start(weights)`: a replica with these weights, and the name that the others' models have too."""
    started = []

    async def start_one(weights: str, store=None, **changes: object) -> OperatingPoints:
        options = {"calibration": weights, "solve": forecast(weights).solve, **changes}
        started.append(OperatingPoints(OWN[weights], store or make_store(), Adaptation(**options)))
        await started[-1].start()
        return started[-1]

    yield start_one
    for points in started:
        await points.close()


async def test_start_with_the_same_weights_takes_over_what_is_stored(start, caplog) -> None:
    points = await start("old")
    await points.change(change("old"))
    point = await points.change(change("old", TARGET))

    assert (await start("old")).history == points.history
    assert (point.calibration, point.thresholds) == ("old", solved("old"))
    assert said(caplog, logging.WARNING) == []


async def test_start_with_new_weights_a_target_is_solved_anew_under_its_version(start, make_store, caplog) -> None:
    caplog.set_level(logging.INFO)
    old = await (await start("old")).change(change("old", TARGET))
    stored = await make_store().read()
    threads = []

    def solve(target: Target) -> tuple[float, ...]:
        threads.append(threading.current_thread())
        return solved("new")

    points = await start("new", solve=solve)

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread(), "solved on the event loop's own thread"
    assert solved("new") != old.thresholds
    assert (points.current.thresholds, points.current.calibration) == (solved("new"), "new")
    assert (points.current.version, points.current.target, points.current.changed_by) == (2, TARGET, "alice")
    assert points.current.updated_at == old.updated_at
    assert [point.version for point in points.history] == [1, 2]
    assert points.history[-1] == points.current
    assert await make_store().read() == stored
    assert any("version 2" in line and "target accuracy 0.8 solved anew" in line for line in caplog.messages)
    assert said(caplog, logging.WARNING) == []


async def test_start_with_new_weights_chosen_thresholds_stay_with_one_warning_until_a_change(start, caplog) -> None:
    earlier = await start("old")
    old = await earlier.change(change("old"))
    await earlier.close()  # it would warn of what is set for the new weights
    points = await start("new")
    for _ in range(3):
        await points._synchronise()

    assert points.current == old
    [warning] = said(caplog, logging.WARNING)
    for text in ("version 2", "set for other weights", "[0.55, 0.55, 0.55] stay"):
        assert text in warning

    point = await points.change(change("new"))
    caplog.clear()
    assert (await start("new")).current == point
    assert (point.version, point.calibration) == (3, "new")
    assert said(caplog, logging.WARNING) == []


@pytest.mark.parametrize(
    ("solve", "reason"),
    [
        (forecast("poor").solve, "target accuracy 0.8 cannot be met: accuracy 0.8000 is above the 0.4000"),
        (Forecast(None, STAGE_MACS, 4000).solve, "the model has no calibration table"),
    ],
)
async def test_start_with_weights_that_cannot_meet_the_target_their_own_hold(start, caplog, solve, reason) -> None:
    await (await start("old")).change(change("old", TARGET))
    points = await start("poor", solve=solve)

    assert (points.current.version, points.current.thresholds, points.current.target) == (2, OWN["poor"], None)
    [warning] = said(caplog, logging.WARNING)
    for text in ("version 2", "the model's own thresholds [0.3, 0.2, 0.1] hold, since", reason):
        assert text in warning
    # Whoever comes with better weights still has the target.
    assert (await start("new")).current.thresholds == solved("new")


async def test_start_with_a_point_from_before_calibrations_were_remembered_it_stays(tmp_path, caplog) -> None:
    path = tmp_path / "config.json"
    entry = {"version": 2, "thresholds": [0.55] * 3, "target": {"kind": "accuracy", "value": 0.8}}
    path.write_text(json.dumps({"a": [{**entry, "changed_by": "alice", "updated_at": "2026-01-01T00:00:00Z"}]}))
    store = FileStore(path, model="a", num_stages=4)
    points = OperatingPoints(OWN["new"], store, Adaptation(calibration="new", solve=forecast("new").solve))
    await points.start()

    assert (points.current.version, points.current.thresholds, points.current.target) == (2, (0.55,) * 3, TARGET)
    assert said(caplog, logging.WARNING) == []


async def test_replicas_with_different_weights_share_versions_and_use_their_own_thresholds(start, shared) -> None:
    old, new = await start("old", shared), await start("new", shared)
    told = []
    new.on_change = told.append
    first = await old.change(change("old", TARGET))
    await soon(lambda: new.current.version == 2)
    assert (old.current.thresholds, new.current.thresholds) == (solved("old"), solved("new"))
    assert told == [new.history]

    second = await new.change(change("new", TARGET))
    await soon(lambda: old.current.version == 3)
    assert (old.current.thresholds, new.current.thresholds) == (solved("old"), solved("new"))
    # What is stored, and what past versions say, is what was set.
    assert shared.history[1:] == (first, second)
    assert old.history[1:-1] == new.history[1:-1] == (first,)


async def test_store_that_forgot_is_told_what_was_set_not_what_holds_here(start, shared) -> None:
    old = await start("old", shared)
    point = await old.change(change("old", TARGET))
    await old.close()
    new = await start("new", shared)
    shared.error = "gone"
    await soon(lambda: not new.stored)
    shared.history, shared.error = None, None
    await soon(lambda: new.stored)

    assert shared.history[-1] == point
    assert new.current.thresholds == solved("new")
