"""The shipped balancer configurations: valid, and what becomes of replicas that are full, start or do not answer."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from balancers import BALANCERS, HOSTS, balancer, check_command, until_it_has_replicas, write_config
from clients import PNG
from replicas import free_port
from tiny_model import png
from waiting import eventually

NOT_READY = "urn:dvt:problem:not-ready"
PROBLEMS = {429: "urn:dvt:problem:overloaded", 503: NOT_READY}


class StubReplica(ThreadingHTTPServer):
    """Answers `/readyz` with one status and all else with another; None closes the connection instead."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), StubHandler)
        self.ready, self.status = 200, 200
        self.asked: list[str] = []


class StubHandler(BaseHTTPRequestHandler):
    server: StubReplica

    def do_GET(self) -> None:
        self._answer(self.server.ready)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.status is not None:
            self._answer(self.server.status)

    do_PUT = do_POST

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status in PROBLEMS:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(json.dumps({"type": PROBLEMS.get(status)}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stubs() -> Iterator[list[StubReplica]]:
    port = free_port(*HOSTS)
    with ExitStack() as stack:
        servers = [stack.enter_context(StubReplica(host, port)) for host in HOSTS]
        for server in servers:
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield servers


@pytest.fixture(params=BALANCERS)
def url(request: pytest.FixtureRequest, stubs: list[StubReplica], tmp_path: Path) -> Iterator[str]:
    """A balancer in front of the stubs."""
    with balancer(request.param, tmp_path / request.param, HOSTS, stubs[0].server_port) as url:
        until_it_has_replicas(url)
        yield url


def classify(url: str) -> httpx.Response:
    return httpx.post(url + "/classify", content=png(), headers=PNG, timeout=5)


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_configuration_has_no_error_and_no_warning(name: str, tmp_path: Path) -> None:
    config = write_config(name, tmp_path, listen=8080, hosts=HOSTS, port=8000, dns=53, changes={})
    verdict = subprocess.run(check_command(name, config), capture_output=True, text=True)

    assert verdict.returncode == 0, verdict.stderr
    assert "warn" not in (verdict.stdout + verdict.stderr).lower()


def test_balancer_full_replica_its_429_reaches_the_client_and_it_stays_in(url: str, stubs: list[StubReplica]) -> None:
    stubs[0].status = 429
    answers = [classify(url) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {200, 429}
    refusals = [answer for answer in answers if answer.status_code == 429]
    # Had it been taken out, it would have refused once.
    assert len(refusals) >= 5
    assert {answer.headers["retry-after"] for answer in refusals} == {"7"}


def test_balancer_replicas_that_start_are_503_until_they_are_ready(url: str, stubs: list[StubReplica]) -> None:
    for stub in stubs:
        stub.ready = stub.status = 503
    eventually(lambda: classify(url).status_code == 503)
    answer = classify(url)
    assert (answer.status_code, answer.json()["type"]) == (503, NOT_READY)
    assert int(answer.headers["retry-after"]) >= 1

    for stub in stubs:
        stub.ready = stub.status = 200
    eventually(lambda: classify(url).status_code == 200)


@pytest.mark.parametrize(
    ("method", "path", "max_attempts"),
    [
        ("POST", "/classify", 4),
        ("POST", "/v2/models/tiny/infer", 4),
        ("PUT", "/config", 1),
        ("POST", "/config/simulate", 1),
    ],
)
def test_balancer_nobody_answers_only_a_classification_is_sent_again_and_not_often(
    url: str, stubs: list[StubReplica], method: str, path: str, max_attempts: int
) -> None:
    for stub in stubs:
        stub.status = None
    status = httpx.request(method, url + path, content=b"x", timeout=10).status_code

    assert status in (502, 503, 504)
    asked = [request for stub in stubs for request in stub.asked]
    assert set(asked) == {f"{method} {path}"}
    assert (max_attempts > 1) <= len(asked) - 1 < max_attempts


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_nobody_there_answers_503_at_once(name: str, tmp_path: Path) -> None:
    with balancer(name, tmp_path / name, HOSTS, free_port(*HOSTS)) as url:
        # Within `classify`'s time limit, far below the timeouts of a balancer that waits for somebody.
        answers = [classify(url) for _ in range(3)]

    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == NOT_READY
