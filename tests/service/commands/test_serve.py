"""From settings to a running process, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tiny_model import png, save_tiny_model

from service.commands import serve as serve_module
from service.commands.serve import serve
from service.http.listener import bind
from service.replica import backend as backend_module
from service.settings import Settings


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("http_workers", [0, 1])
def test_serve_warm_up_that_fails_ends_the_process_with_1(model, monkeypatch, http_workers):
    def broken(self):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(backend_module.TorchRunner, "warm_up", broken)

    settings = Settings(model=model, http_port=0, http_workers=http_workers, log_level="error")
    assert serve(settings, bind(settings)) == 1


def test_serve_variable_that_nobody_reads_is_named_in_the_log(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setenv("DVT_MAX_INFLIHGT", "5")
    monkeypatch.setenv("DVT_HTTP_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setattr(serve_module, "build", lambda settings: SimpleNamespace(engine=SimpleNamespace(running=False)))
    monkeypatch.setattr(serve_module, "Replica", lambda *_: SimpleNamespace(run=lambda: 0))

    with socket.socket() as listener:
        assert serve(Settings(), listener) == 0
    assert "ignored, since Kubernetes sets them for a service of such a name: DVT_HTTP_PORT" in caplog.messages
    assert "DVT_MAX_INFLIHGT is not a setting: is it misspelt?" in caplog.messages


@pytest.fixture(params=[0, 2], ids=["one_process", "two_front_ends"])
def process(request, model, tmp_path):
    """A server as its own process: its URL and the process."""
    log = tmp_path / "log"
    settings = {
        "DVT_MODEL": model,
        "DVT_HTTP_PORT": "0",
        "DVT_HTTP_WORKERS": str(request.param),
        "DVT_DRAIN_DELAY_S": "0.5",
        "OMP_NUM_THREADS": "1",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            env={**os.environ, **settings},
            cwd=Path(__file__).parents[3],
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            deadline = time.monotonic() + 60
            while (found := re.search(r"running on (http://\S+)", log.read_text())) is None:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield found.group(1), server
        finally:
            server.kill()


def until_status(client, path, status):
    deadline = time.monotonic() + 30
    while client.get(path).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_nobody_listens(address):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail(f"still listening on {address}")


def test_serve_upload_under_way_at_sigterm_is_answered_under_the_configuration_patched_before(process):
    url, server = process
    address = (httpx.URL(url).host, httpx.URL(url).port)
    body = png()
    head = f"POST /classify HTTP/1.1\r\nHost: dvt\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    with httpx.Client(base_url=url) as client, socket.create_connection(address, timeout=20) as upload:
        until_status(client, "/readyz", 200)
        assert client.patch("/config", json={"thresholds": 0}).json()["version"] == 2
        upload.sendall(head.encode() + body[:-10])
        # Answered on another connection, so the server has the upload's beginning by now.
        until_status(client, "/livez", 200)
        server.send_signal(signal.SIGTERM)
        until_nobody_listens(address)
        assert server.poll() is None
        upload.sendall(body[-10:])
        with HTTPResponse(upload) as response:
            response.begin()
            answer = json.load(response)

    assert response.status == 200
    assert response.headers["x-dvt-config-version"] == "2"
    assert (answer["config_version"], answer["exit"]["stage"]) == (2, 0)
    assert server.wait(20) == 0
