"""A replica as real processes, and what becomes of requests when one of them is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tiny_model import png, save_tiny_model

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60


@dataclass
class RunningReplica:
    """A running `dvt serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def front_ends(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sorted(int(pid) for pid in children.read_text().split())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def replica(model: str, tmp_path: Path) -> Iterator[RunningReplica]:
    log = tmp_path / "log"
    settings = {"DVT_MODEL": model, "DVT_HTTP_PORT": "0", "DVT_HTTP_WORKERS": "2", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            env={**os.environ, **settings},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            eventually(
                lambda: "running on" in log.read_text() or "Traceback" in log.read_text() or process.poll() is not None
            )
            found = re.search(r"running on (http://\S+)", log.read_text())
            assert found, log.read_text()
            started = RunningReplica(found.group(1), process, log)
            eventually(lambda: status(started.url, "/readyz") == 200)
            eventually(lambda: log.read_text().count("startup complete") == 2)
            yield started
        finally:
            process.kill()


def eventually(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def status(url: str, path: str) -> int | None:
    try:
        return httpx.get(url + path, timeout=PATIENCE_S).status_code
    except httpx.TransportError:
        return None


@dataclass
class Load:
    """Clients that send one image after the other until told to stop; counts what they got."""

    url: str
    outcomes: Counter[object] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self._run) for _ in range(6)]
        for thread in self.threads:
            thread.start()
        eventually(lambda: self.outcomes[200] > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a request hangs"

    def _run(self) -> None:
        image, headers = png(), {"content-type": "image/png"}
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            while not self.stop.is_set():
                try:
                    answer = client.post("/classify", content=image, headers=headers)
                    self.outcomes[answer.status_code] += 1
                except httpx.TransportError:
                    self.outcomes["broken"] += 1
                    time.sleep(0.01)


def identity_holds(url: str) -> bool:
    text = httpx.get(url + "/metrics").text

    def total(name: str) -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
    return total("dvt_images_total") == sum(map(total, ends))


def test_replica_front_end_killed_loses_its_own_connections_only_and_is_replaced(replica: RunningReplica) -> None:
    victim, survivor = replica.front_ends()
    with Load(replica.url) as load:
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(replica.front_ends()) == 2 and victim not in replica.front_ends())
        eventually(lambda: replica.log.read_text().count("startup complete") == 3)
        answered = load.outcomes[200]
        eventually(lambda: load.outcomes[200] > answered + 20)

    # One request at most was under way on each of the six connections.
    assert set(load.outcomes) <= {200, "broken"}
    assert load.outcomes["broken"] <= 6
    assert survivor in replica.front_ends()
    assert replica.process.poll() is None
    eventually(lambda: identity_holds(replica.url))
    assert "dvt_front_end_deaths_total 1.0" in httpx.get(replica.url + "/metrics").text


def test_replica_engine_killed_every_request_ends_and_nothing_is_left(replica: RunningReplica) -> None:
    front_ends = replica.front_ends()
    with Load(replica.url) as load:
        killed_at = time.monotonic()
        replica.process.kill()
        replica.process.wait(PATIENCE_S)
        eventually(lambda: not any(map(alive, front_ends)))
        ended_after_s = time.monotonic() - killed_at

    assert set(load.outcomes) <= {200, 500, 503, "broken"}
    assert status(replica.url, "/readyz") is None
    print(f"front ends ended {ended_after_s:.2f} s after the engine process")


def test_replica_configuration_changed_at_one_front_end_holds_at_both(replica: RunningReplica) -> None:
    for version in range(2, 12):
        thresholds = 0 if version % 2 else 2
        assert httpx.patch(replica.url + "/config", json={"thresholds": thresholds}).json()["version"] == version
        # New connections each time: either front end may take them.
        for _ in range(4):
            answer = httpx.post(replica.url + "/classify", content=png(), headers={"content-type": "image/png"})
            assert answer.headers["x-dvt-config-version"] == str(version)
            assert answer.json()["exit"]["stage"] == (0 if version % 2 else 3)


def test_replica_front_end_replaced_after_retraining_in_place_serves_what_the_engine_serves(
    replica: RunningReplica, model: str
) -> None:
    def answers() -> tuple[object, object]:
        answer = httpx.post(replica.url + "/classify", content=png(), headers={"content-type": "image/png"}).json()
        described = httpx.get(replica.url + "/models").json()
        return answer["label"], described["models"][0]["class_names"]

    config = Path(model) / "config.json"
    before, text = answers(), config.read_text()
    try:
        config.write_text(text.replace('"cat"', '"wolf"').replace('"dog"', '"lion"').replace('"ship"', '"boat"'))
        for pid in replica.front_ends():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: replica.log.read_text().count("startup complete") == 4)
        assert answers() == before
        assert before[1] == ["cat", "dog", "ship"]
    finally:
        config.write_text(text)


def test_replica_sigterm_under_load_answers_what_it_took_and_ends_with_0(replica: RunningReplica) -> None:
    with Load(replica.url) as load:
        replica.process.terminate()
        assert replica.process.wait(PATIENCE_S) == 0

    assert set(load.outcomes) <= {200, 503, "broken"}
    assert "Traceback" not in replica.log.read_text()


def test_replica_second_sigterm_ends_at_once_with_1(replica: RunningReplica) -> None:
    # A body that never comes would hold a drain up.
    with httpx.Client(base_url=replica.url) as client:
        assert client.get("/livez").status_code == 200

        def half_a_body() -> Iterator[bytes]:
            yield b"x"
            replica.process.terminate()
            eventually(lambda: "Shutting down" in replica.log.read_text())
            replica.process.terminate()
            assert replica.process.wait(PATIENCE_S) == 1
            yield b"x"

        with pytest.raises(httpx.TransportError):
            client.post("/classify", content=half_a_body(), headers={"content-type": "image/png"})


def test_replica_front_end_that_does_not_stay_up_ends_the_replica_with_1(replica: RunningReplica) -> None:
    def kill_all() -> bool:
        for pid in replica.front_ends() if replica.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        return replica.process.poll() is not None

    eventually(kill_all)

    assert replica.process.wait() == 1
    assert "does not stay up" in replica.log.read_text()


def test_replica_address_in_use_is_an_error_and_not_a_traceback(replica: RunningReplica, model: str) -> None:
    port = httpx.URL(replica.url).port
    second = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--model", model, "--port", str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_engine_process_that_stands_still_is_noticed_and_may_come_back(replica: RunningReplica) -> None:
    with Load(replica.url) as load:
        os.kill(replica.process.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            eventually(lambda: status(replica.url, "/livez") == 503)
            assert status(replica.url, "/readyz") == 503
            noticed_s = time.monotonic() - stopped_at
            answered = httpx.post(f"{replica.url}/classify", content=png(), timeout=5).status_code
        finally:
            os.kill(replica.process.pid, signal.SIGCONT)
        eventually(lambda: status(replica.url, "/readyz") == 200)
        before = load.outcomes[200]
        eventually(lambda: load.outcomes[200] > before + 20)
    assert answered == 503
    assert noticed_s < 6
    assert set(load.outcomes) <= {200, 503}


def test_deadline_holds_while_the_engine_process_stands_still(replica: RunningReplica) -> None:
    os.kill(replica.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = httpx.post(f"{replica.url}/classify", params={"deadline_ms": 300}, content=png(), timeout=10)
        assert answer.status_code == 504
        assert time.monotonic() - began < 3
    finally:
        os.kill(replica.process.pid, signal.SIGCONT)


def test_front_end_that_stands_still_is_replaced(replica: RunningReplica) -> None:
    stopped, other = replica.front_ends()
    with Load(replica.url) as load:
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: stopped not in replica.front_ends() and len(replica.front_ends()) == 2)
        before = load.outcomes[200]
        eventually(lambda: load.outcomes[200] > before + 20)
    assert other in replica.front_ends()
    assert identity_holds(replica.url)
