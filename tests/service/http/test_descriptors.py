"""Room for connections, within what the operating system allows."""

import resource

import pytest

from service.http import descriptors


@pytest.fixture
def limits(monkeypatch):
    """The process's limits, and what they were set to."""
    state = {"now": (1024, 4096), "set": []}
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: state["now"])
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _, limit: state["set"].append(limit))
    return state


@pytest.mark.parametrize(
    ("now", "connections", "limit"),
    [
        ((1024, 4096), 2048, [(2304, 4096)]),
        ((1024, resource.RLIM_INFINITY), 2048, [(2304, resource.RLIM_INFINITY)]),
        ((1024, 4096), 100, []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 2048, []),
    ],
)
def test_make_room_raises_the_limit_as_far_as_needed(limits, caplog, now, connections, limit):
    limits["now"] = now
    descriptors.make_room(connections)

    assert limits["set"] == limit
    assert not caplog.records


def test_make_room_goes_as_far_as_is_allowed(limits):
    descriptors.make_room(5000)

    assert limits["set"] == [(4096, 4096)]


@pytest.mark.parametrize(("soft", "wanted"), [(2304, 2048), (resource.RLIM_INFINITY, 10**6)])
def test_affordable_connections_with_enough_descriptors_are_those_wanted(limits, caplog, soft, wanted):
    limits["now"] = (soft, soft)

    assert descriptors.affordable_connections(wanted) == wanted
    assert not caplog.records


def test_affordable_connections_are_fewer_where_descriptors_are_and_that_is_said(limits, monkeypatch, caplog):
    monkeypatch.setattr(descriptors.os, "listdir", lambda _: ["0"] * 20)
    limits["now"] = (128, 128)

    assert descriptors.affordable_connections(2048) == 44
    assert "128 open files are allowed here, too few for DVT_MAX_CONNECTIONS=2048" in caplog.text
    assert "at most 44 connections" in caplog.text
    limits["now"] = (32, 32)
    assert descriptors.affordable_connections(2048) == 1
