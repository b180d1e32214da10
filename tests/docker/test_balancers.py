"""The shipped balancer configurations in front of real replicas: what dies, restarts, is full or starts."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from balancers import WITHOUT_RETRY, balancer, binary, check_command, write_config
from clients import PNG, Load, Sample, samples_of
from replicas import Replica, eventually, free_port, png, save_tiny_model

BALANCERS = ("nginx", "haproxy")
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
# Forms of a replica: an engine process with a front end, and everything in one process.
HTTP_WORKERS = ("1", "0", "1")
MAX_INFLIGHT = 32
MAX_BODY_BYTES = 2**20


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    for name in BALANCERS:
        binary(name)
    folder = tmp_path_factory.mktemp("replicas")
    model, port = save_tiny_model(folder / "tiny"), free_port(*HOSTS)
    settings = {
        "DVT_MODEL": model,
        "DVT_MAX_INFLIGHT": str(MAX_INFLIGHT),
        "DVT_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "DVT_DRAIN_DELAY_S": "1.5",
    }
    started = [
        Replica(host, port, folder / f"log-{host}", {**settings, "DVT_HTTP_WORKERS": workers})
        for host, workers in zip(HOSTS, HTTP_WORKERS, strict=True)
    ]
    try:
        for replica in started:
            replica.start()
        for replica in started:
            replica.until_status("/readyz", 200)
        yield started
    finally:
        for replica in started:
            replica.kill()


@pytest.fixture(scope="module")
def samples(replicas: list[Replica]) -> list[Sample]:
    return samples_of(replicas[0].url)


Outcome = dict[tuple[str, bool], Counter[str]]
"""What failed, by balancer and whether it retries."""


def loads(
    stack: ExitStack, folder: Path, replicas: list[Replica], samples: list[Sample]
) -> dict[tuple[str, bool], Load]:
    """Clients at each balancer as it is shipped, and at each without its retries."""
    running = {}
    for name in BALANCERS:
        for retries in (True, False):
            changes = {} if retries else WITHOUT_RETRY[name]
            url = stack.enter_context(
                balancer(name, folder / f"{name}-{retries}", HOSTS, replicas[0].port, changes)
            )
            eventually(lambda url=url: httpx.get(url + "/readyz").status_code == 200)
            running[name, retries] = Load(url, samples)
    for load in running.values():
        stack.enter_context(load)
    return running


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, replicas: list[Replica], samples: list[Sample]) -> Outcome:
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
        for load in running.values():
            load.until_answered(20)
    return {which: load.failures for which, load in running.items()}


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory, replicas: list[Replica], samples: list[Sample]) -> Outcome:
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
    return {which: load.failures for which, load in running.items()}


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replica_killed_with_requests_in_flight_clients_lose_nothing(name: str, killed: Outcome) -> None:
    assert killed[name, True] == {}


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_without_its_retries_replica_killed_clients_lose_requests(name: str, killed: Outcome) -> None:
    print(f"{name} without retries: {dict(killed[name, False])}")
    assert killed[name, False].total() > 0


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replicas_restarted_in_turn_clients_lose_nothing(name: str, restarted: Outcome) -> None:
    print(f"{name} without retries: {dict(restarted[name, False])}")
    assert restarted[name, True] == {}
