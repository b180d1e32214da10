"""Real replicas that share a real Redis server, under load."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from replicas import free_port
from tiny_model import png, save_tiny_model
from waiting import eventually

from service.capacity.child import SERVE, served

REDIS = shutil.which("redis-server")
PATIENCE_S = 30.0
IN_FORCE_EVERYWHERE_S = 1.0
ALICE = {"Authorization": "Bearer hush"}

pytestmark = pytest.mark.skipif(REDIS is None, reason="needs redis-server (Debian: redis-server)")

Replicas = list[httpx.Client]


class RedisServer:
    """A server that forgets everything when it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port("127.0.0.1")
        self._folder = folder
        self.start()

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([str(REDIS), *arguments, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


class ReplicaLoad:
    """One client for each replica, sending images until the end."""

    def __init__(self, replicas: Replicas) -> None:
        self.outcomes: Counter[object] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(str(each.base_url),)) for each in replicas]

    def __enter__(self) -> "ReplicaLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until_more_are_answered(self) -> None:
        before = self.outcomes.total()
        eventually(lambda: self.outcomes.total() > before + 10)

    def _send(self, url: str) -> None:
        body, headers = png(), {"Content-Type": "image/png"}
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            while not self._stop.wait(0.05):
                try:
                    self.outcomes[client.post("/classify", content=body, headers=headers).status_code] += 1
                except httpx.TransportError as error:
                    self.outcomes[repr(error)] += 1


def patched(replica: httpx.Client, thresholds: float, **headers: str) -> httpx.Response:
    return replica.patch("/config", json={"thresholds": thresholds}, headers={**ALICE, **headers})


def until_in_force(document: dict[str, object], replicas: Replicas, within_s: float = IN_FORCE_EVERYWHERE_S) -> None:
    eventually(lambda: all(each.get("/config").json() == document for each in replicas), within_s=within_s)


def until_store_up(replicas: Replicas, up: float) -> None:
    eventually(lambda: all(f"\ndvt_config_store_up {up}\n" in each.get("/metrics").text for each in replicas))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replicas(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Clients of two replicas: one with a front end of its own, and one in a single process."""
    environment = {
        "DVT_MODEL": save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"),
        "DVT_CONFIG_STORE": f"redis://127.0.0.1:{redis.port}/0",
        "DVT_ADMIN_KEY": "alice:hush,bob:shush",
        "DVT_TORCH_THREADS": "1",
        "DVT_DTYPE": "float32",
    }
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        clients = []
        for server in pool.map(
            lambda workers: stack.enter_context(served(SERVE, {**environment, "DVT_HTTP_WORKERS": workers})), "10"
        ):
            client = httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=PATIENCE_S)
            clients.append(stack.enter_context(client))
        yield clients


def test_change_at_one_replica_is_in_force_at_all_within_a_second(replicas) -> None:
    for number, replica in enumerate(replicas, 1):
        changed = patched(replica, number / 10)
        assert changed.status_code == 200
        until_in_force(changed.json(), replicas)

    histories = [replica.get("/config/history").json() for replica in replicas]
    assert histories[0] == histories[1]
    assert {each["changed_by"] for each in histories[0]["versions"]} == {"alice", "model"}


def test_redis_going_away_and_coming_back_empty_disturbs_no_classification(replicas, redis) -> None:
    document = patched(replicas[0], 0.625).json()
    until_in_force(document, replicas, PATIENCE_S)
    with ReplicaLoad(replicas) as load:
        redis.stop()
        until_store_up(replicas, 0.0)
        refused = patched(replicas[1], 0.1)
        load.until_more_are_answered()
        assert [replica.get("/config").json() for replica in replicas] == [document] * 2
        redis.start()
        until_store_up(replicas, 1.0)
        # The replicas have told Redis again what it has forgotten.
        changed = patched(replicas[0], 0.1).json()
        until_in_force(changed, replicas)

    assert refused.status_code == 503
    assert "Redis cannot be used" in refused.json()["detail"]
    assert changed["version"] == document["version"] + 1
    assert set(load.outcomes) == {200}


def test_redis_that_never_answers_delays_a_change_but_no_classification(replicas, redis) -> None:
    with ReplicaLoad(replicas) as load:
        redis.process.send_signal(signal.SIGSTOP)  # connections stay open and nothing is answered
        try:
            began = time.monotonic()
            assert patched(replicas[0], 0.3).status_code == 503
            assert time.monotonic() - began < PATIENCE_S / 3
            load.until_more_are_answered()
        finally:
            redis.process.send_signal(signal.SIGCONT)
        until_store_up(replicas, 1.0)
        assert patched(replicas[0], 0.3).status_code == 200

    assert set(load.outcomes) == {200}
