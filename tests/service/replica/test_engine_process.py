"""A replica as real processes, and what becomes of requests when one of them is killed or stands still."""

import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clients import PNG, ClientLoad, samples_of
from replicas import ReplicaProcess, free_port
from tiny_model import png, save_tiny_model
from waiting import PATIENCE_S, eventually

from service.capacity.instant import instant_backend
from service.http.listener import bind
from service.replica import engine_process
from service.replica.engine_process import Replica
from service.replica.front_ends import FrontEnd
from service.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def front_ends(replica: ReplicaProcess) -> list[int]:
    children = Path(f"/proc/{replica.process.pid}/task/{replica.process.pid}/children")
    return sorted(int(pid) for pid in children.read_text().split())


def num_started(replica: ReplicaProcess) -> int:
    """Front ends that have begun to serve, dead ones included."""
    return replica.log.read_text().count("startup complete")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def samples(url: str, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = httpx.get(url + "/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def identity_holds(url: str) -> bool:
    ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
    return samples(url, "dvt_images_total") == sum(samples(url, name) for name in ends)


def load_of(replica: ReplicaProcess) -> ClientLoad:
    return ClientLoad(replica.url, samples_of(replica.url), num_clients=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def replica(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaProcess]:
    """One replica of two front ends, until the last test that uses it kills it."""
    log, settings = tmp_path_factory.mktemp("replica") / "log", {"DVT_MODEL": model, "DVT_HTTP_WORKERS": "2"}
    replica = ReplicaProcess("127.0.0.1", free_port("127.0.0.1"), log, settings)
    replica.start()
    replica.until_status("/readyz", 200)
    eventually(lambda: num_started(replica) == 2)
    yield replica
    replica.kill()


def test_replica_configuration_changed_at_one_front_end_holds_at_both(replica: ReplicaProcess) -> None:
    for version in range(2, 6):
        thresholds = 0 if version % 2 else 2
        assert httpx.patch(replica.url + "/config", json={"thresholds": thresholds}).json()["version"] == version
        # New connections each time: either front end may take them.
        for _ in range(4):
            answer = httpx.post(replica.url + "/classify", content=png(), headers=PNG)
            assert answer.headers["x-dvt-config-version"] == str(version)
            assert answer.json()["exit"]["stage"] == (0 if version % 2 else 3)
    httpx.patch(replica.url + "/config", json={"thresholds": 2})


def test_replica_front_end_killed_loses_its_own_connections_only_and_is_replaced_with_the_same_model(
    replica: ReplicaProcess, model: str
) -> None:
    config = Path(model) / "config.json"
    text = config.read_text()
    # Trained anew in its folder; a front end that starts now still serves what the engine has loaded.
    config.write_text(text.replace('"cat"', '"wolf"').replace('"dog"', '"lion"').replace('"ship"', '"boat"'))
    victim, survivor = front_ends(replica)
    try:
        with load_of(replica) as load:
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: num_started(replica) == 3)
            load.until_answered(60)
            failures = load.failures.copy()
            assert survivor in front_ends(replica)
            assert victim not in front_ends(replica)
            os.kill(survivor, signal.SIGKILL)
            eventually(lambda: num_started(replica) == 4)
            load.until_answered(60)
        assert httpx.get(replica.url + "/models").json()["models"][0]["class_names"] == ["cat", "dog", "ship"]
    finally:
        config.write_text(text)

    # One request at most was under way on each of the six connections.
    assert failures.total() <= 6
    assert not any(failure.isdigit() or failure == "wrong answer" for failure in load.failures)
    assert samples(replica.url, "dvt_front_end_deaths_total") == 2
    eventually(lambda: identity_holds(replica.url))


def test_engine_process_that_stands_still_is_noticed_deadlines_hold_and_it_may_come_back(
    replica: ReplicaProcess,
) -> None:
    with load_of(replica) as load:
        os.kill(replica.process.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            late = httpx.post(f"{replica.url}/classify", params={"deadline_ms": 300}, content=png(), timeout=10)
            answered_s = time.monotonic() - stopped_at
            # Each front end notices it for itself.
            eventually(lambda: {replica.status(path) for path in ("/livez", "/readyz") * 5} == {503})
            noticed_s = time.monotonic() - stopped_at
            refused = httpx.post(f"{replica.url}/classify", content=png(), timeout=5)
        finally:
            os.kill(replica.process.pid, signal.SIGCONT)
        replica.until_status("/readyz", 200)
        load.until_answered(20)
    assert (late.status_code, refused.status_code) == (504, 503)
    assert answered_s < 3
    assert noticed_s < 6
    assert set(load.failures) <= {"503"}


def test_front_end_that_stands_still_is_replaced(replica: ReplicaProcess) -> None:
    stopped, other = front_ends(replica)
    os.kill(stopped, signal.SIGSTOP)
    eventually(lambda: stopped not in front_ends(replica) and len(front_ends(replica)) == 2)
    assert other in front_ends(replica)
    assert identity_holds(replica.url)


def test_replica_engine_killed_every_request_ends_and_no_process_is_left(replica: ReplicaProcess) -> None:
    left = front_ends(replica)
    with load_of(replica) as load:
        replica.process.kill()
        replica.process.wait(PATIENCE_S)
        eventually(lambda: not any(map(alive, left)))

    assert "wrong answer" not in load.failures
    assert replica.status("/readyz") is None


def fake_front_end(*, dies: bool = False) -> FrontEnd:
    """A front end that says nothing and ends with 9: at once, or when it is killed."""
    ours, theirs = socket.socketpair()
    if dies:
        theirs.close()

    async def wait() -> int:
        return 9

    return FrontEnd(ours, wait, theirs.close)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Run a replica in this process with other front ends and engine: `run(start, **settings)`."""

    def run(start, **settings: object) -> int:
        monkeypatch.setattr(engine_process, "start_process", start)
        chosen = Settings(http_port=0, http_workers=1, config_store="memory", **settings)
        return Replica(instant_backend(chosen), chosen, bind(chosen)).run()

    interval_s, handlers = sys.getswitchinterval(), {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(engine_process, "settle_heap", lambda: None)
    monkeypatch.setattr(engine_process, "_RESTART_DELAY_S", 0.0)
    monkeypatch.setattr(engine_process, "_DEATH_GRACE_S", 0.01)
    yield run
    sys.setswitchinterval(interval_s)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_replica_front_end_that_does_not_stay_up_ends_the_replica_with_1(run, caplog) -> None:
    permits_found = []

    def start(index: int, listener_fd: int, permits_fd: int) -> FrontEnd:
        with mmap.mmap(permits_fd, 0) as memory:
            permits_found.append(memory[0])
            memory[0] = 5  # it dies with five images in flight
        return fake_front_end(dies=True)

    assert run(start) == 1
    assert permits_found == [0, 0, 0]
    assert [record.message for record in caplog.records][-2:] == [
        "front end 0 ended with code 9; its connections are lost",
        "front end 0 does not stay up",
    ]


def test_replica_front_end_that_cannot_be_started_ends_the_replica_with_1(run, caplog) -> None:
    def start(*_: int) -> FrontEnd:
        raise OSError("no more processes")

    assert run(start) == 1
    assert "front end 0 cannot be kept running" in caplog.text


def test_replica_batch_that_takes_too_long_ends_the_replica_with_1(run, caplog, monkeypatch) -> None:
    monkeypatch.setattr("service.engine.engine.Engine.busy_s", 3.5)

    assert run(lambda *_: fake_front_end(), max_step_s=3) == 1
    assert "a batch has taken more than 3 s; the device hangs" in caplog.messages
