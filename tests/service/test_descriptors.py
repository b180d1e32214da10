"""Room for connections, within what the operating system allows."""

import resource

import pytest

from service import descriptors


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


def test_make_room_that_is_not_to_be_had_is_said(limits, caplog):
    descriptors.make_room(5000)

    assert limits["set"] == [(4096, 4096)]
    assert "4096 open files are allowed here, too few for DVT_MAX_CONNECTIONS=5000" in caplog.text
