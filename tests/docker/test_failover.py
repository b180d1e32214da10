"""Replicas that die or restart behind the shipped balancers, and what clients notice of it."""

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
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


Which = tuple[str, bool]
"""A balancer, and whether it retries as it is shipped."""
Outcome = dict[Which, Counter[str]]
"""What failed."""


@contextmanager
def loads(
    folder: Path, replicas: list[ReplicaProcess], samples: list[Sample], which: Sequence[Which]
) -> Iterator[list[ClientLoad]]:
    """Clients at each of these balancers."""
    with ExitStack() as stack:
        running = []
        for name, retries in which:
            changes = {} if retries else WITHOUT_RETRY[name]
            url = stack.enter_context(balancer(name, folder / f"{name}-{retries}", HOSTS, replicas[0].port, changes))
            until_it_has_replicas(url)
            running.append(ClientLoad(url, samples))
        for load in running:
            stack.enter_context(load)
        yield running


def outcome(what: str, which: Sequence[Which], running: list[ClientLoad]) -> Outcome:
    """What failed; shown by `pytest -s`, as the figures of docker/README.md are."""
    for (name, retries), load in zip(which, running, strict=True):
        how = "as shipped" if retries else "without retries"
        print(f"\n{what}, {name} {how}: {sum(load.answered)} answered, {load.failures.total()} lost", end="")
    return {each: load.failures for each, load in zip(which, running, strict=True)}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, replicas: list[ReplicaProcess], samples: list[Sample]) -> Outcome:
    """One replica dies while it works on requests of every balancer, and comes back."""
    victim, which = replicas[0], list(product(BALANCERS, (True, False)))
    with loads(tmp_path_factory.mktemp("killed"), replicas, samples, which) as running:
        victim.signal_all(signal.SIGSTOP)
        for load in running:
            load.until_one_waits()
        victim.kill()
        for load in running:
            load.until_answered(20)
        victim.start()
        victim.until_status("/readyz", 200)
        eventually(lambda: "dvt_images_total 0.0" not in httpx.get(victim.url + "/metrics").text)
        for load in running:
            load.until_answered(20)
    return outcome("killed", which, running)


@pytest.fixture(scope="module")
def restarted(
    tmp_path_factory: pytest.TempPathFactory, replicas: list[ReplicaProcess], samples: list[Sample]
) -> Outcome:
    """One replica of each form after the other is restarted at its address."""
    which = [(name, True) for name in BALANCERS]
    with loads(tmp_path_factory.mktemp("restarted"), replicas, samples, which) as running:
        for replica in replicas[:2]:
            replica.process.terminate()
            assert replica.process.wait(30) == 0, replica.log.read_text()
            replica.start()
            replica.until_status("/readyz", 200)
            for load in running:
                load.until_answered(20)
    return outcome("restarted", which, running)


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replica_killed_with_requests_in_flight_clients_lose_nothing_thanks_to_its_retries(
    name: str, killed: Outcome
) -> None:
    assert killed[name, True] == {}
    assert killed[name, False].total() > 0


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replicas_restarted_in_turn_clients_lose_nothing(name: str, restarted: Outcome) -> None:
    assert restarted[name, True] == {}
