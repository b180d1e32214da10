"""From the start of a replica to its end, as real processes and as a balancer or an orchestrator sees it."""

import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from clients import PNG
from replicas import ROOT, ReplicaProcess, free_port
from tiny_model import png, save_tiny_model
from waiting import eventually

# Every stage twice with the only batch size; how far larger ones are tried depends on how long they take.
WARM_UP_RUNS = [f"{stage} 1" for stage in range(4) for _ in range(2)]
WITHOUT_LIMIT = 10**9

StartReplica = Callable[..., ReplicaProcess]

both = pytest.mark.parametrize("http_workers", [0, 1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def start(model: str, tmp_path: Path) -> Iterator[StartReplica]:
    """Start a replica whose engine may run only so many batches; more settings as keywords."""
    started: list[ReplicaProcess] = []

    def start(http_workers: int, allowed_runs: int = WITHOUT_LIMIT, **settings: str) -> ReplicaProcess:
        allow(tmp_path, allowed_runs)
        workers = {"DVT_HTTP_WORKERS": str(http_workers), "DVT_MAX_BATCH_SIZE": "1"}
        program = [str(ROOT / "tests" / "support" / "gated_serve.py"), str(tmp_path)]
        replica = ReplicaProcess(
            "127.0.0.1",
            free_port("127.0.0.1"),
            tmp_path / "log",
            {"DVT_MODEL": model, **workers, **settings},
            program,
        )
        replica.start()
        started.append(replica)
        return replica

    yield start
    for replica in started:
        replica.kill()


def allow(folder: Path, runs: int) -> None:
    # In one step: it is read while it is written.
    (folder / "new").write_text(str(runs))
    (folder / "new").rename(folder / "allowed")


def runs(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text().splitlines() if path.exists() else []


def classify(replica: ReplicaProcess) -> httpx.Response:
    return httpx.post(replica.url + "/classify", content=png(), headers=PNG, timeout=60)


def until_nobody_listens(replica: ReplicaProcess) -> None:
    def refused() -> bool:
        try:
            socket.create_connection((replica.host, replica.port), timeout=5).close()
        except OSError:
            return True
        return False

    eventually(refused)


@both
def test_replica_is_ready_only_after_its_warm_up_and_at_sigterm_finishes_what_it_took_and_ends_with_0(
    start: StartReplica, tmp_path: Path, http_workers: int
) -> None:
    replica = start(http_workers, allowed_runs=len(WARM_UP_RUNS) - 1)
    replica.until_status("/livez", 200)
    eventually(lambda: runs(tmp_path) == WARM_UP_RUNS, lambda: runs(tmp_path))
    refusal = httpx.get(replica.url + "/readyz")
    assert (refusal.status_code, refusal.json()["detail"]) == (503, "the service is starting")
    refusal = classify(replica)
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "5")
    allow(tmp_path, len(WARM_UP_RUNS))
    replica.until_status("/readyz", 200)

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(classify, replica)
        eventually(lambda: len(runs(tmp_path)) > len(WARM_UP_RUNS))
        replica.process.terminate()
        until_nobody_listens(replica)
        assert replica.process.poll() is None
        allow(tmp_path, WITHOUT_LIMIT)
    assert slow.result().status_code == 200
    assert replica.process.wait(20) == 0


@both
def test_replica_request_not_done_in_the_drain_timeout_is_told_503_and_the_exit_code_is_1(
    start: StartReplica, tmp_path: Path, http_workers: int
) -> None:
    replica = start(http_workers, allowed_runs=len(WARM_UP_RUNS), DVT_DRAIN_TIMEOUT_S="1")
    replica.until_status("/readyz", 200)
    with ThreadPoolExecutor() as pool:
        stuck = [pool.submit(classify, replica) for _ in range(2)]
        eventually(lambda: "dvt_images_total 2.0" in httpx.get(replica.url + "/metrics").text)
        replica.process.terminate()

    for request in stuck:
        assert (request.result().status_code, request.result().headers["connection"]) == (503, "close")
    if http_workers:
        allow(tmp_path, WITHOUT_LIMIT)  # otherwise the engine never lets go of them, and is not waited for
    assert replica.process.wait(20) == 1
    assert "2 request(s) cut off after the drain timeout of 1 s" in replica.log.read_text()


@both
def test_replica_draining_is_unready_answers_lets_connections_go_and_a_second_sigterm_ends_it_at_once_with_1(
    start: StartReplica, tmp_path: Path, http_workers: int
) -> None:
    replica = start(http_workers, DVT_DRAIN_DELAY_S="1000", DVT_DRAIN_TIMEOUT_S="1000")
    resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (128, 128))  # before it reads its settings
    replica.until_status("/readyz", 200)
    # With few descriptors, probes are answered beside more silent connections than it can hold.
    with ExitStack() as held:
        for _ in range(300):
            held.enter_context(socket.create_connection((replica.host, replica.port)))
        replica.until_status("/livez", 200)  # while they arrive all at once, a probe may be closed as well
        assert [replica.status("/livez") for _ in range(20)] == [200] * 20
    assert "at most" in replica.log.read_text()

    assert "connection" not in classify(replica).headers
    replica.process.terminate()
    replica.until_status("/readyz", 503)

    def lets_go() -> bool:
        answer = classify(replica)
        assert answer.status_code == 200
        return answer.headers.get("connection") == "close"

    eventually(lets_go)
    # The header stays on answers to come, also when the server has renewed its date.
    date = classify(replica).headers["date"]
    eventually(lambda: classify(replica).headers["date"] != date)
    assert lets_go()
    allow(tmp_path, 0)
    before = len(runs(tmp_path))
    with ThreadPoolExecutor() as pool:
        stuck = pool.submit(classify, replica)
        eventually(lambda: len(runs(tmp_path)) > before)
        replica.process.terminate()
        assert replica.process.wait(20) == 1
        assert isinstance(stuck.exception(), httpx.TransportError) or stuck.result().status_code == 503


@both
def test_replica_sigterm_while_it_warms_up_ends_soon_with_0(
    start: StartReplica, tmp_path: Path, http_workers: int
) -> None:
    replica = start(http_workers, allowed_runs=1, DVT_DRAIN_DELAY_S="1000", DVT_DRAIN_TIMEOUT_S="1000")
    eventually(lambda: len(runs(tmp_path)) == 2)
    replica.process.terminate()

    assert replica.process.wait(20) == 0


def test_replica_sigterm_while_it_loads_ends_soon_with_0(start: StartReplica, tmp_path: Path) -> None:
    (tmp_path / "import").touch()
    replica = start(1)
    eventually(lambda: "importing torch" in replica.log.read_text())
    replica.process.terminate()

    assert replica.process.wait(20) == 0
