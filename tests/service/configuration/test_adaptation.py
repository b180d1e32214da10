"""A stored configuration meets other weights than those it was set for: on one replica, and on several."""

import logging
import threading

import numpy as np
import pytest
from waiting import soon

from service.configuration.adaptation import Adaptation
from service.configuration.forecast import Forecast
from service.configuration.operating_points import OperatingPoints
from service.configuration.store import decode
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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
async def start(shared):
    """`await start(weights)`: a replica with these weights, and the name that the others' models have too."""
    started = []

    async def start_one(weights: str, solve=None) -> OperatingPoints:
        adaptation = Adaptation(calibration=weights, solve=solve or forecast(weights).solve)
        started.append(OperatingPoints(OWN[weights], shared, adaptation))
        await started[-1].start()
        return started[-1]

    yield start_one
    for points in started:
        await points.close()


async def test_start_with_new_weights_a_target_is_solved_anew_under_its_version(start, shared, caplog) -> None:
    caplog.set_level(logging.INFO)
    old = await (await start("old")).change(change("old", TARGET))
    stored = shared.history
    threads = []

    def solve(target: Target) -> tuple[float, ...]:
        threads.append(threading.current_thread())
        return solved("new")

    points = await start("new", solve)

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread(), "solved on the event loop's own thread"
    assert solved("new") != old.thresholds
    assert (points.current.thresholds, points.current.calibration) == (solved("new"), "new")
    assert (points.current.version, points.current.target, points.current.changed_by) == (2, TARGET, "alice")
    assert points.current.updated_at == old.updated_at
    assert points.history == (*stored[:-1], points.current)
    assert shared.history == stored
    assert any("version 2" in line and "target accuracy 0.8 solved anew" in line for line in caplog.messages)
    assert warnings(caplog) == []


async def test_start_with_new_weights_chosen_thresholds_stay_with_one_warning_until_a_change(
    start, shared, caplog
) -> None:
    earlier = await start("old")
    old = await earlier.change(change("old"))
    await earlier.close()  # it would warn of what is set for the new weights
    points = await start("new")
    reads = shared.reads
    await soon(lambda: shared.reads > reads + 3)

    assert points.current == old
    [warning] = warnings(caplog)
    for text in ("version 2", "set for other weights", "[0.55, 0.55, 0.55] stay"):
        assert text in warning

    caplog.clear()
    point = await points.change(change("new"))
    assert (await start("new")).current == point
    assert (point.version, point.calibration) == (3, "new")
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("solve", "reason"),
    [
        (forecast("poor").solve, "target accuracy 0.8 cannot be met: accuracy 0.8000 is above the 0.4000"),
        (Forecast(None, STAGE_MACS, 4000).solve, "the model has no calibration table"),
    ],
)
async def test_start_with_weights_that_cannot_meet_the_target_their_own_hold(start, caplog, solve, reason) -> None:
    await (await start("old")).change(change("old", TARGET))
    points = await start("poor", solve)

    assert (points.current.version, points.current.thresholds, points.current.target) == (2, OWN["poor"], None)
    [warning] = warnings(caplog)
    for text in ("version 2", "the model's own thresholds [0.3, 0.2, 0.1] hold, since", reason):
        assert text in warning
    # Whoever comes with better weights still has the target.
    assert (await start("new")).current.thresholds == solved("new")


async def test_start_with_a_point_from_before_calibrations_were_remembered_it_stays(start, shared, caplog) -> None:
    target = b'"target": {"kind": "accuracy", "value": 0.8}, "changed_by": "alice"'
    entry = b'[{"version": 2, "thresholds": [0.55, 0.55, 0.55], "updated_at": "2026-01-01T00:00:00Z", %b}]'
    shared.history = decode(entry % target, 4, "here")

    assert (await start("new")).current == shared.history[-1]
    assert warnings(caplog) == []


async def test_replicas_with_different_weights_share_versions_and_use_their_own_thresholds(start, shared) -> None:
    old, new = await start("old"), await start("new")
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
    old = await start("old")
    point = await old.change(change("old", TARGET))
    await old.close()
    new = await start("new")
    shared.history = None

    await soon(lambda: shared.history is not None)
    assert shared.history[-1] == point
    assert new.current.thresholds == solved("new")
