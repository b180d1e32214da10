"""Room for connections, within what the operating system allows."""

from resource import RLIM_INFINITY

import pytest

from service.http import descriptors


@pytest.fixture
def limits(monkeypatch):
    """The process's limits, and what they were set to."""
    state = {"now": (1024, 4096), "set": []}
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: state["now"])
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _, limit: state["set"].append(limit))
    monkeypatch.setattr(descriptors.os, "listdir", lambda _: ["0"] * 20)
    return state


@pytest.mark.parametrize(
    ("now", "connections", "limit"),
    [
        ((1024, 4096), 2048, [(2304, 4096)]),
        ((1024, RLIM_INFINITY), 2048, [(2304, RLIM_INFINITY)]),
        ((1024, 4096), 5000, [(4096, 4096)]),
        ((1024, 4096), 768, []),
        ((RLIM_INFINITY, RLIM_INFINITY), 2048, []),
    ],
)
def test_make_room_raises_the_limit_as_far_as_needed_and_allowed(limits, caplog, now, connections, limit):
    limits["now"] = now
    descriptors.make_room(connections)

    assert limits["set"] == limit
    assert not caplog.records


@pytest.mark.parametrize(
    ("soft", "wanted", "affordable"),
    [(2132, 2048, 2048), (RLIM_INFINITY, 10**6, 10**6), (128, 2048, 44), (32, 2048, 1)],
)
def test_affordable_connections_are_those_wanted_or_fewer_and_that_is_said(limits, caplog, soft, wanted, affordable):
    limits["now"] = (soft, soft)

    assert descriptors.affordable_connections(wanted) == affordable
    if affordable == wanted:
        assert not caplog.records
    else:
        assert f"{soft} open files are allowed here, too few for DVT_MAX_CONNECTIONS=2048" in caplog.text
        assert f"at most {affordable} connections" in caplog.text
