"""Every kind of client, honest and hostile, at one real server for a second each."""

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks.soak import clients
from benchmarks.soak.checks import judge
from benchmarks.soak.clients import CLIENTS, SoakRecord, soak
from benchmarks.soak.hostile_clients import ABUSES, DEAF, KINDS, SLOW, attack
from service.capacity.child import Child, served


@pytest.fixture(scope="module")
def server(model) -> Iterator[Child]:
    settings = {"DVT_MODEL": str(model), "DVT_MAX_INFLIGHT": "32", "DVT_HTTP_WORKERS": "0", "DVT_DTYPE": "float32"}
    settings |= {"DVT_CLIENT_TIMEOUT_S": "1", "DVT_MAX_BODY_BYTES": "1000000", "DVT_TRUST_LOOPBACK": "true"}
    with served(environment={**settings, "OMP_NUM_THREADS": "1"}) as child:
        yield child


async def test_soak_all_clients_come_and_a_sound_server_passes(server, monkeypatch):
    monkeypatch.setattr(clients, "_SAMPLE_INTERVAL_S", 0.1)
    books = SoakRecord()
    metrics = await soak(server, 1.0, books)

    assert {check.name for check in judge(books, metrics, max_growth_mb=1e6) if not check.ok} == set()
    assert books.full_status == 200
    assert {kind for kind, number in books.sent.items() if number} == set(CLIENTS)


def test_kinds_of_a_hundred_clients_are_all_there_are():
    assert set((KINDS * 4)[:100]) == {*ABUSES, *SLOW, DEAF}


def test_attack_honest_clients_are_answered_right_and_every_image_is_accounted_for(server):
    tally = asyncio.run(attack(server, 2, hostile=len(KINDS), honest=2))

    assert set(tally.done) == set(KINDS)
    assert tally.wrong == []
    assert tally.statuses[200] == tally.statuses.total() > 0
    assert tally.probe_s
    assert tally.unaccounted == 0
