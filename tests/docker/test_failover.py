"""Replicas that die or restart behind the shipped balancers, and what clients notice of it."""

import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from balancers import BALANCERS, HOSTS, WITHOUT_RETRY, balancer, until_it_has_replicas
from clients import ClientLoad, Sample, samples_of
from replicas import ReplicaProcess
from waiting import eventually


@pytest.fixture(scope="module")
def samples(replicas: list[ReplicaProcess]) -> list[Sample]:
    return samples_of(replicas[0].url)


Outcome = dict[tuple[str, bool], Counter[str]]
"""What failed, by balancer and whether it retries."""


def loads(
    stack: ExitStack, folder: Path, replicas: list[ReplicaProcess], samples: list[Sample]
) -> dict[tuple[str, bool], ClientLoad]:
    """Clients at each balancer as it is shipped, and at each without its retries."""
    running = {}
    for name in BALANCERS:
        for retries in (True, False):
            changes = {} if retries else WITHOUT_RETRY[name]
            url = stack.enter_context(balancer(name, folder / f"{name}-{retries}", HOSTS, replicas[0].port, changes))
            until_it_has_replicas(url)
            running[name, retries] = ClientLoad(url, samples)
    for load in running.values():
        stack.enter_context(load)
    return running


def outcome(what: str, running: dict[tuple[str, bool], ClientLoad]) -> Outcome:
    """What failed; shown by `pytest -s`, as the figures of docker/README.md are."""
    for (name, retries), load in running.items():
        how = "as shipped" if retries else "without retries"
        print(f"\n{what}, {name} {how}: {sum(load.answered)} answered, {load.failures.total()} lost", end="")
    return {which: load.failures for which, load in running.items()}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, replicas: list[ReplicaProcess], samples: list[Sample]) -> Outcome:
    """One replica dies while it works on requests of every balancer, and comes back."""
    victim = replicas[0]
    with ExitStack() as stack:
        running = loads(stack, tmp_path_factory.mktemp("killed"), replicas, samples)
        victim.signal_all(signal.SIGSTOP)
        for load in running.values():
            load.until_one_waits()
        victim.kill()
        for load in running.values():
            load.until_answered(20)
        victim.start()
        victim.until_status("/readyz", 200)
        eventually(lambda: "dvt_images_total 0.0" not in httpx.get(victim.url + "/metrics").text)
        for load in running.values():
            load.until_answered(20)
    return outcome("killed", running)


@pytest.fixture(scope="module")
def restarted(
    tmp_path_factory: pytest.TempPathFactory, replicas: list[ReplicaProcess], samples: list[Sample]
) -> Outcome:
    """One replica after the other is restarted at its address."""
    with ExitStack() as stack:
        running = loads(stack, tmp_path_factory.mktemp("restarted"), replicas, samples)
        for replica in replicas:
            replica.process.terminate()
            assert replica.process.wait(30) == 0, replica.log.read_text()
            replica.start()
            replica.until_status("/readyz", 200)
            for load in running.values():
                load.until_answered(20)
    return outcome("restarted", running)


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replica_killed_with_requests_in_flight_clients_lose_nothing(name: str, killed: Outcome) -> None:
    assert killed[name, True] == {}


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_without_its_retries_replica_killed_clients_lose_requests(name: str, killed: Outcome) -> None:
    assert killed[name, False].total() > 0


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replicas_restarted_in_turn_clients_lose_nothing(name: str, restarted: Outcome) -> None:
    assert restarted[name, True] == {}
