"""From settings to a running process, and how it ends."""

import json
import math
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
import torch
from tiny_model import png, save_tiny_model

from service.commands import serve as serve_module
from service.commands.serve import assemble, serve
from service.engine.engine import EngineState
from service.http import server as server_module
from service.http.listener import bind
from service.http.server import StandaloneServer
from service.replica import backend as backend_module
from service.settings import Settings, SettingsError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_assemble_hands_the_settings_and_the_model_on(model):
    context = assemble(Settings(model=model, max_inflight=3, max_image_pixels=77, max_body_bytes=88))

    assert context.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert context.operating_points.current.thresholds == (2.0, 2.0, 2.0)
    assert (context.decoder.max_pixels, context.decoder.max_bytes) == (77, 88)
    assert len(context.engine.stage_macs) == 4
    assert context.engine.state is EngineState.STARTING


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_assemble_dtype_that_is_set_is_not_measured(model, monkeypatch, dtype):
    monkeypatch.delattr(backend_module, "choose_dtype")
    assert assemble(Settings(model=model, dtype=dtype)).engine.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_assemble_dtype_auto_takes_what_was_measured(model, monkeypatch, dtype):
    asked = []

    def choose(cascade, **options):
        asked.append(options)
        return getattr(torch, dtype)

    monkeypatch.setattr(backend_module, "choose_dtype", choose)
    context = assemble(Settings(model=model, dtype="auto", max_batch_size=7))
    assert context.engine.dtype == dtype
    assert asked == [{"device": context.device, "max_batch_size": 7}]


def test_assemble_torch_threads_are_set(model):
    before = torch.get_num_threads()
    try:
        assemble(Settings(model=model, torch_threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_assemble_device_that_is_not_there_is_refused_by_name(model, device):
    with pytest.raises(SettingsError, match=f"DVT_DEVICE: '{device}'"):
        assemble(Settings(model=model, device=device))


def test_assemble_thresholds_may_give_way_without_a_calibration_table_is_refused(model):
    with pytest.raises(SettingsError, match=r"DVT_SHED_ACCURACY_DROP: 0\.01 needs a calibration table, and tiny has"):
        assemble(Settings(model=model, shed_accuracy_drop=0.01))


@pytest.mark.parametrize(
    "wrong", [{"device": "abacus"}, {"config_store": "postgres://host"}, {"shed_accuracy_drop": 0.01}]
)
def test_assemble_wrong_setting_is_refused_before_precisions_are_measured(model, monkeypatch, wrong):
    monkeypatch.delattr(backend_module, "choose_dtype")

    with pytest.raises(SettingsError, match=f"DVT_{next(iter(wrong)).upper()}"):
        assemble(Settings(model=model, **wrong))


def test_assemble_thresholds_may_give_way_the_engine_gets_the_tables_ladder(monkeypatch):
    ladders = []

    class Engine(backend_module.Engine):
        def __init__(self, *args, ladder, **options):
            ladders.append(ladder)
            super().__init__(*args, ladder=ladder, **options)

    monkeypatch.setattr(backend_module, "Engine", Engine)
    for drop in (None, 0.01):
        thresholds = assemble(Settings(shed_accuracy_drop=drop)).manifest.thresholds

    assert ladders[0] is None
    assert ladders[1](1, thresholds)[-1] < thresholds  # solved before anybody asks


async def test_server_first_signal_only_drains_until_the_delay_is_over(model, monkeypatch):
    server = StandaloneServer(context := assemble(Settings(model=model, drain_delay_s=5)))
    monkeypatch.setattr(type(context.engine), "state", EngineState.READY)
    now = time.monotonic()
    monkeypatch.setattr(server_module.time, "monotonic", lambda: now)
    assert not await server.on_tick(1)
    server.handle_exit(signal.SIGTERM, None)

    assert context.draining
    assert not await server.on_tick(1)
    now += 5
    assert await server.on_tick(1)
    assert not server.failed


async def test_server_second_signal_closes_at_once_and_counts_as_a_failure(model):
    server = StandaloneServer(assemble(Settings(model=model, drain_delay_s=1e6)))
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(signal.SIGTERM, None)

    assert await server.on_tick(1)
    assert server.force_exit
    assert server.failed


def test_server_never_believes_a_header_about_who_is_asking(model):
    config = StandaloneServer(assemble(Settings(model=model, drain_timeout_s=2.5))).config

    assert config.proxy_headers is False
    assert config.timeout_graceful_shutdown == math.ceil(2.5)


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
    monkeypatch.setattr(serve_module, "run", lambda backend, settings, listener: 0)

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
