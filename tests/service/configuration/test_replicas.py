"""Real replicas that share a real Redis server, under load."""

import shutil
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
KEYS = "alice:hush,bob:shush"
ALICE = {"Authorization": "Bearer hush"}

pytestmark = pytest.mark.skipif(REDIS is None, reason="needs redis-server (Debian: redis-server)")


class RedisServer:
    """A server that forgets everything when it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port("127.0.0.1")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [str(REDIS), *arguments, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        eventually(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


class ReplicaLoad:
    """One client for each replica, sending images until the end."""

    def __init__(self, urls: list[str]) -> None:
        self.outcomes: Counter[object] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(url,)) for url in urls]

    def __enter__(self) -> "ReplicaLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, url: str) -> None:
        body, headers = png(), {"Content-Type": "image/png"}
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            while not self._stop.wait(0.01):
                try:
                    self.outcomes[client.post("/classify", content=body, headers=headers).status_code] += 1
                except httpx.TransportError as error:
                    self.outcomes[repr(error)] += 1


def config(url: str) -> dict[str, object]:
    document: dict[str, object] = httpx.get(f"{url}/config").json()
    return document


def until_in_force(document: dict[str, object], urls: list[str]) -> None:
    eventually(lambda: all(config(url) == document for url in urls), within_s=IN_FORCE_EVERYWHERE_S)


def patched(url: str, thresholds: float, **headers: str) -> httpx.Response:
    return httpx.patch(f"{url}/config", json={"thresholds": thresholds}, headers={**ALICE, **headers}, timeout=10)


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def environment(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    model = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    return {
        "DVT_MODEL": model,
        "DVT_CONFIG_STORE": redis.url,
        "DVT_ADMIN_KEY": KEYS,
        "DVT_HTTP_WORKERS": "1",
        "DVT_TORCH_THREADS": "1",
        "DVT_DTYPE": "float32",
    }


@pytest.fixture(scope="module")
def urls(environment: dict[str, str]) -> Iterator[list[str]]:
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        servers = pool.map(lambda _: stack.enter_context(served(SERVE, environment)), range(2))
        yield [f"http://{server.host}:{server.port}" for server in list(servers)]


def test_change_at_one_replica_is_in_force_at_all_within_a_second(urls) -> None:
    for number, url in enumerate(urls, 1):
        changed = patched(url, number / 10)
        assert changed.status_code == 200
        until_in_force(changed.json(), urls)

    histories = [httpx.get(f"{url}/config/history").json() for url in urls]
    assert histories[0] == histories[1]
    assert {each["changed_by"] for each in histories[0]["versions"]} == {"alice", "model"}


def test_change_of_two_writers_at_two_replicas_one_succeeds_and_one_is_412(urls) -> None:
    patched(urls[0], 0.9)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            version = patched(urls[0], 0.5).json()["version"]
            tag = f'"{version}"'
            sent = [pool.submit(patched, url, 0.25, **{"If-Match": tag}) for url in urls]
            assert sorted(each.result().status_code for each in sent) == [200, 412]


def test_redis_going_away_and_coming_back_empty_disturbs_no_classification(urls, redis, environment) -> None:
    document = patched(urls[0], 0.625).json()
    eventually(lambda: all(config(url) == document for url in urls))
    with ReplicaLoad(urls) as load:
        redis.stop()
        eventually(lambda: all(metric(url, "dvt_config_store_up") == 0 for url in urls))
        refused = patched(urls[1], 0.1)
        before = sum(load.outcomes.values())
        eventually(lambda: sum(load.outcomes.values()) > before + 30)
        assert [config(url) for url in urls] == [document] * 2
        with served(SERVE, environment) as late:
            late_url = f"http://{late.host}:{late.port}"
            assert config(late_url)["version"] == 1
            redis.start()
            eventually(lambda: all(metric(url, "dvt_config_store_up") == 1 for url in urls))
            # What Redis has forgotten, the replicas have told it again, and through it the late one.
            eventually(lambda: config(late_url) == document)
        changed = patched(urls[0], 0.1).json()
        until_in_force(changed, urls)

    assert refused.status_code == 503
    assert "Redis cannot be used" in refused.json()["detail"]
    assert changed["version"] == document["version"] + 1
    assert set(load.outcomes) == {200}


def test_redis_that_never_answers_delays_a_change_but_no_classification(urls, redis) -> None:
    with ReplicaLoad(urls) as load:
        redis._process.send_signal(19)  # SIGSTOP: connections stay open and nothing is answered
        try:
            began = time.monotonic()
            assert patched(urls[0], 0.3).status_code == 503
            assert time.monotonic() - began < PATIENCE_S / 3
            before = sum(load.outcomes.values())
            eventually(lambda: sum(load.outcomes.values()) > before + 30)
        finally:
            redis._process.send_signal(18)
        eventually(lambda: all(metric(url, "dvt_config_store_up") == 1 for url in urls))
        assert patched(urls[0], 0.3).status_code == 200

    assert set(load.outcomes) == {200}
