"""Hostile clients against a real server, for seconds: honest ones get their answers."""

import asyncio

from benchmarks.soak.hostile_clients import ABUSES, DEAF, KINDS, SLOW, attack
from service.capacity.child import served


def test_kinds_of_a_hundred_clients_are_all_there_are():
    assert set((KINDS * 4)[:100]) == {*ABUSES, *SLOW, DEAF}


def test_attack_honest_clients_are_answered_right_and_every_image_is_accounted_for(model):
    settings = {"DVT_MODEL": str(model), "DVT_CLIENT_TIMEOUT_S": "1", "DVT_HTTP_WORKERS": "1"}
    settings |= {"DVT_MAX_BODY_BYTES": "1000000", "DVT_DTYPE": "float32", "OMP_NUM_THREADS": "1"}
    with served(environment=settings) as server:
        tally = asyncio.run(attack(server, 3, hostile=len(KINDS), honest=2))

    assert set(tally.done) == set(KINDS)
    assert tally.wrong == []
    assert tally.statuses[200] == tally.statuses.total() > 0
    assert tally.probe_s
    assert tally.unaccounted == 0
