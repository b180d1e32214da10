"""The shipped balancer configurations: valid, and what becomes of replicas that are full, start or do not answer."""

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from balancers import BALANCERS, HOSTS, balancer, check_command, until_it_has_replicas, write_config
from clients import PNG
from replicas import ROOT, ReplicaProcess, free_port
from tiny_model import png, save_tiny_model
from waiting import eventually


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_configuration_has_no_error_and_no_warning(name: str, tmp_path: Path) -> None:
    config = write_config(name, tmp_path, listen=8080, hosts=HOSTS, port=8000, dns=53, changes={})
    verdict = subprocess.run(check_command(name, config), capture_output=True, text=True)

    assert verdict.returncode == 0, verdict.stderr
    assert "warn" not in (verdict.stdout + verdict.stderr).lower()


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_full_replica_its_429_reaches_the_client_and_it_stays_in(
    name: str, replicas: list[ReplicaProcess], tmp_path: Path
) -> None:
    full = replicas[0]
    files = [("file", png())] * int(full.settings["DVT_MAX_INFLIGHT"])
    with (
        ThreadPoolExecutor() as pool,
        balancer(name, tmp_path / name, HOSTS, full.port) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        # Its engine stands still, its front end does not.
        os.kill(full.process.pid, signal.SIGSTOP)
        try:
            filling = pool.submit(httpx.post, full.url + "/classify", files=files, timeout=60)
            # While there is room, this is refused for another reason.
            eventually(lambda: httpx.post(full.url + "/classify", headers={"content-type": "x"}).status_code == 429)
            eventually(lambda: client.post("/classify", content=png(), headers=PNG).status_code == 429)
            answers = [client.post("/classify", content=png(), headers=PNG) for _ in range(30)]
        finally:
            os.kill(full.process.pid, signal.SIGCONT)

    assert filling.result().status_code == 200
    refusals = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    # Had it been taken out, it would have refused once.
    assert len(refusals) >= 5
    for refusal in refusals:
        assert refusal.json()["type"] == "urn:dvt:problem:overloaded"
        assert int(refusal.headers["retry-after"]) >= 1


class Quitter(BaseHTTPRequestHandler):
    """Is ready, and closes the connection instead of answering anything else."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.asked[f"{self.command} {self.path}"] += 1
        self.close_connection = True

    do_PATCH = do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "path", "max_attempts"),
    [
        ("POST", "/classify", 4),
        ("POST", "/v2/models/tiny/infer", 4),
        ("PATCH", "/config", 1),
        ("PUT", "/config", 1),
        ("POST", "/config/simulate", 1),
    ],
)
@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_nobody_answers_only_a_classification_is_sent_again_and_not_often(
    name: str, method: str, path: str, max_attempts: int, tmp_path: Path
) -> None:
    port = free_port(*HOSTS)
    Quitter.asked.clear()
    with ExitStack() as stack:
        for host in HOSTS:
            server = stack.enter_context(ThreadingHTTPServer((host, port), Quitter))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = stack.enter_context(balancer(name, tmp_path / name, HOSTS, port))
        until_it_has_replicas(url)
        status = httpx.request(method, url + path, content=b"x", timeout=10).status_code

    assert status in (502, 503, 504)
    assert (max_attempts > 1) <= Quitter.asked[f"{method} {path}"] - 1 < max_attempts


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_nobody_there_answers_503_at_once(name: str, tmp_path: Path) -> None:
    with balancer(name, tmp_path / name, HOSTS, free_port(*HOSTS)) as url:
        # Far below the timeouts of a balancer that waits for somebody.
        answers = [httpx.post(url + "/classify", content=png(), headers=PNG, timeout=5) for _ in range(3)]

    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:dvt:problem:not-ready"


def test_balancer_replica_that_starts_is_503_until_it_is_ready(tmp_path: Path) -> None:
    port = free_port(*HOSTS)
    model = save_tiny_model(tmp_path / "tiny")
    (tmp_path / "allowed").write_text("1")
    program = [str(ROOT / "tests" / "support" / "gated_serve.py"), str(tmp_path)]
    replica = ReplicaProcess(HOSTS[0], port, tmp_path / "log", {"DVT_MODEL": model, "DVT_HTTP_WORKERS": "0"}, program)
    replica.start()
    try:
        with ExitStack() as stack:
            urls = [stack.enter_context(balancer(name, tmp_path / name, HOSTS[:1], port)) for name in BALANCERS]
            replica.until_status("/livez", 200)
            for url in urls:
                answer = httpx.post(url + "/classify", content=png(), headers=PNG, timeout=5)
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:dvt:problem:not-ready")
                assert int(answer.headers["retry-after"]) >= 1
            (tmp_path / "allowed").write_text("1000")
            for url in urls:
                eventually(lambda url=url: httpx.post(url + "/classify", content=png(), headers=PNG).status_code == 200)
    finally:
        replica.kill()


@pytest.fixture(scope="module", params=BALANCERS)
def url(
    request: pytest.FixtureRequest, replicas: list[ReplicaProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A balancer in front of all replicas."""
    folder = tmp_path_factory.mktemp("balancer") / request.param
    with balancer(request.param, folder, HOSTS, replicas[0].port) as url:
        until_it_has_replicas(url)
        yield url


def test_balancer_body_over_the_services_limit_is_told_so_by_the_service(
    url: str, replicas: list[ReplicaProcess]
) -> None:
    limit = int(replicas[0].settings["DVT_MAX_BODY_BYTES"])
    answer = httpx.post(url + "/classify", content=bytes(limit + 1), headers=PNG, timeout=30)

    assert answer.status_code == 413
    assert answer.json()["detail"] == f"the body has {limit + 1} bytes; the limit is {limit}"


def test_balancer_request_id_is_the_clients_or_a_new_one(url: str) -> None:
    own = httpx.post(url + "/classify", content=png(), headers={**PNG, "X-Request-ID": "mine-7"})
    assert own.headers["x-request-id"] == own.json()["id"] == "mine-7"
    assert httpx.get(url + "/info").headers["x-request-id"]


def test_balancer_metrics_of_single_replicas_are_not_shown(url: str) -> None:
    assert httpx.get(url + "/metrics").status_code == 404


def test_balancer_configuration_cannot_be_changed_through_it_without_a_key(url: str) -> None:
    answer = httpx.patch(url + "/config", json={"thresholds": 0})

    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


def test_balancer_shows_the_console_under_its_policy(url: str, replicas: list[ReplicaProcess]) -> None:
    for path in ("/console", "/console/js/main.js"):
        through, direct = httpx.get(url + path), httpx.get(replicas[0].url + path)
        assert (through.status_code, through.content) == (200, direct.content)
        for header in ("content-security-policy", "content-type", "x-content-type-options"):
            assert through.headers[header] == direct.headers[header]
