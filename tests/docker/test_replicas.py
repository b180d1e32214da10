"""Real replicas behind the shipped balancers: what passes through, and what clients notice of a restart and a death."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import httpx
import pytest
from balancers import BALANCERS, HOSTS, WITHOUT_RETRY, balancer, binary, until_it_has_replicas
from clients import PNG, ClientLoad, samples_of
from replicas import ReplicaProcess, free_port
from tiny_model import png, save_tiny_model
from waiting import eventually

MAX_BODY_BYTES = 2**20
# Of each replica: an engine process with a front end, and everything in one process.
HTTP_WORKERS = ("1", "0")
SETTINGS = {
    "DVT_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    # Longer than HAProxy needs to see that a replica is no longer ready.
    "DVT_DRAIN_DELAY_S": "1.5",
}

Which = tuple[str, bool]
"""A balancer, and whether it retries as it is shipped."""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ReplicaProcess]]:
    for name in BALANCERS:
        binary(name)
    folder = tmp_path_factory.mktemp("replicas")
    model, port = save_tiny_model(folder / "tiny"), free_port(*HOSTS)
    started = [
        ReplicaProcess(
            host, port, folder / f"log-{host}", {**SETTINGS, "DVT_MODEL": model, "DVT_HTTP_WORKERS": workers}
        )
        for host, workers in zip(HOSTS, HTTP_WORKERS, strict=False)
    ]
    with ExitStack() as stack:
        for replica in started:
            replica.start()
            stack.callback(replica.kill)
        for replica in started:
            replica.until_status("/readyz", 200)
        yield started


@pytest.fixture(scope="module")
def urls(replicas: list[ReplicaProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Which, str]]:
    """Four balancers in front of the same replicas."""
    folder, hosts = tmp_path_factory.mktemp("balancers"), [replica.host for replica in replicas]
    with ExitStack() as stack:
        started = {
            (name, retries): stack.enter_context(
                balancer(
                    name, folder / f"{name}-{retries}", hosts, replicas[0].port, {} if retries else WITHOUT_RETRY[name]
                )
            )
            for name, retries in product(BALANCERS, (True, False))
        }
        for url in started.values():
            until_it_has_replicas(url)
        yield started


@pytest.fixture(params=BALANCERS)
def url(request: pytest.FixtureRequest, urls: dict[Which, str]) -> str:
    """A balancer as it is shipped."""
    return urls[request.param, True]


def test_balancer_body_over_the_services_limit_is_told_so_by_the_service(url: str) -> None:
    answer = httpx.post(url + "/classify", content=bytes(MAX_BODY_BYTES + 1), headers=PNG, timeout=30)

    assert answer.status_code == 413
    assert answer.json()["detail"] == f"the body has {MAX_BODY_BYTES + 1} bytes; the limit is {MAX_BODY_BYTES}"


def test_balancer_request_id_is_the_clients_or_a_new_one(url: str) -> None:
    own = httpx.post(url + "/classify", content=png(), headers={**PNG, "X-Request-ID": "mine-7"})
    assert own.headers["x-request-id"] == own.json()["id"] == "mine-7"
    assert httpx.get(url + "/info").headers["x-request-id"]


def test_balancer_hides_metrics_and_changes_the_configuration_only_with_a_key(url: str) -> None:
    assert httpx.get(url + "/metrics").status_code == 404
    answer = httpx.patch(url + "/config", json={"thresholds": 0})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


def test_balancer_shows_the_console_under_its_policy(url: str, replicas: list[ReplicaProcess]) -> None:
    for path in ("/console", "/console/js/main.js"):
        through, direct = httpx.get(url + path), httpx.get(replicas[0].url + path)
        assert (through.status_code, through.content) == (200, direct.content)
        for header in ("content-security-policy", "content-type", "x-content-type-options"):
            assert through.headers[header] == direct.headers[header]


Losses = dict[Which, Counter[str]]
"""What failed of the requests to each balancer."""


@pytest.fixture(scope="module")
def losses(urls: dict[Which, str], replicas: list[ReplicaProcess]) -> tuple[Losses, Losses]:
    """While one replica was restarted, and while the other died with requests of every balancer."""
    restarted, killed = replicas
    samples = samples_of(restarted.url)
    loads = {which: ClientLoad(url, samples) for which, url in urls.items()}
    as_shipped = {which: load for which, load in loads.items() if which[1]}
    with ExitStack() as stack:
        for load in as_shipped.values():
            stack.enter_context(load)
        restarted.process.terminate()
        assert restarted.process.wait(30) == 0, restarted.log.read_text()
        restarted.start()
        restarted.until_status("/readyz", 200)
        eventually(lambda: "dvt_images_total 0.0" not in httpx.get(restarted.url + "/metrics").text)
        at_restart = lost_until_now("restarted", as_shipped)

        for load in (load for (_, retries), load in loads.items() if not retries):
            stack.enter_context(load)
        killed.signal_all(signal.SIGSTOP)
        for load in loads.values():
            load.until_one_waits()
        killed.kill()
        return at_restart, lost_until_now("killed", loads)


def lost_until_now(what: str, loads: dict[Which, ClientLoad]) -> Losses:
    """What failed until all of them had more right answers; shown by `pytest -s`, as docker/README.md has it."""
    lost = {}
    for (name, retries), load in loads.items():
        load.until_answered(20)
        lost[name, retries], load.failures = load.failures, Counter()
        how = "as shipped" if retries else "without retries"
        print(f"\n{what}, {name} {how}: {sum(load.answered)} answered so far, {lost[name, retries].total()} lost")
    return lost


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replica_restarted_clients_lose_nothing(name: str, losses: tuple[Losses, Losses]) -> None:
    assert losses[0][name, True] == {}


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_replica_killed_with_requests_in_flight_clients_lose_nothing_thanks_to_its_retries(
    name: str, losses: tuple[Losses, Losses]
) -> None:
    assert losses[1][name, True] == {}
    assert losses[1][name, False].total() > 0
