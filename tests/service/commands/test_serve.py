"""From settings to a running process, and how it ends."""

import json
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from replicas import ROOT, ReplicaProcess, free_port
from tiny_model import png, save_tiny_model
from waiting import eventually

from service.commands.serve import run
from service.http.listener import bind
from service.replica import backend, engine_process
from service.settings import Settings, SettingsError

# Modules of our own, of a library and of the standard library.
NAMES = ("models", "weights", "uvicorn", "msgspec", "json", "argparse")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("http_workers", [0, 1])
def test_run_warm_up_that_fails_ends_the_process_with_1(model, monkeypatch, http_workers):
    def broken(self):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(backend.TorchRunner, "warm_up", broken)

    settings = Settings(model=model, http_port=0, http_workers=http_workers, log_level="error")
    assert run(settings, bind(settings)) == 1


def test_run_variable_that_nobody_reads_is_named_in_the_log(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setenv("DVT_MAX_INFLIHGT", "5")
    monkeypatch.setenv("DVT_HTTP_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setattr(backend, "build", lambda settings: SimpleNamespace(engine=SimpleNamespace(running=False)))
    monkeypatch.setattr(engine_process, "Replica", lambda *_: SimpleNamespace(run=lambda: 0))

    with socket.socket() as listener:
        assert run(Settings(), listener) == 0
    assert "ignored, since Kubernetes sets them for a service of such a name: DVT_HTTP_PORT" in caplog.messages
    assert "DVT_MAX_INFLIHGT is not a setting: is it misspelt?" in caplog.messages


def test_run_with_something_else_in_the_store_is_refused(model, tmp_path):
    (tmp_path / "config.json").write_text("a shopping list")
    settings = Settings(model=model, http_port=0, config_store=str(tmp_path / "config.json"))

    with bind(settings) as listener, pytest.raises(SettingsError, match=r"DVT_CONFIG_STORE: .*config\.json cannot be"):
        run(settings, listener)


@pytest.fixture
def server(model: str, tmp_path: Path) -> Iterator[ReplicaProcess]:
    """`python -m service serve`, started in a folder whose modules must not be imported."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in NAMES:
        (trap / f"{name}.py").write_text("raise SystemExit(f'{__name__} was imported from the working directory')")
    settings = {"DVT_MODEL": model, "DVT_HTTP_WORKERS": "2", "DVT_DRAIN_DELAY_S": "0.2", "PYTHONPATH": str(ROOT)}
    replica = ReplicaProcess("127.0.0.1", free_port("127.0.0.1"), tmp_path / "log", settings, folder=trap)
    replica.start()
    yield replica
    replica.kill()


def nobody_listens(server: ReplicaProcess) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_serve_upload_under_way_at_sigterm_is_answered_under_the_configuration_patched_before(server):
    body = png()
    head = f"POST /classify HTTP/1.1\r\nHost: dvt\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    server.until_status("/readyz", 200)
    with socket.create_connection((server.host, server.port), timeout=20) as upload:
        assert httpx.patch(f"{server.url}/config", json={"thresholds": 0}).json()["version"] == 2
        upload.sendall(head.encode() + body[:-10])
        # Answered on another connection, so the server has the upload's beginning by now.
        server.until_status("/livez", 200)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: nobody_listens(server), server.log.read_text)
        assert server.process.poll() is None
        upload.sendall(body[-10:])
        with HTTPResponse(upload) as response:
            response.begin()
            answer = json.load(response)

    assert response.status == 200
    assert response.headers["x-dvt-config-version"] == "2"
    assert (answer["config_version"], answer["exit"]["stage"]) == (2, 0)
    assert server.process.wait(20) == 0
