"""A changed configuration survives the end of the process, however it ends, and new weights under the same name."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from calibrated import save_calibrated
from tiny_model import png

from service.capacity.child import SERVE, ServerFailedError, served
from weights.store import load

TARGET = {"accuracy": 0.5}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[httpx.Client, int]]:
    """A client of a server with the folder's model and configuration, and the server's process."""
    environment = {
        "DVT_MODEL": str(folder / "tiny"),
        "DVT_HTTP_WORKERS": "1",
        "DVT_TORCH_THREADS": "1",
        "DVT_DTYPE": "float32",
        "DVT_CONFIG_STORE": str(folder / "config.json"),
    }
    with (
        served(SERVE, environment, folder / "log") as server,
        httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=30) as client,
    ):
        yield client, server.pid


def test_configuration_survives_a_clean_end_a_kill_and_other_weights(tmp_path: Path) -> None:
    model = save_calibrated(tmp_path / "tiny")
    with serving(tmp_path) as (client, _):
        assert client.get("/config").json()["version"] == 1
        first = client.patch("/config", json={"thresholds": [0.1, 0.2, 0.3]}).json()
    with suppress(ServerFailedError), serving(tmp_path) as (client, pid):
        assert client.get("/config").json() == first
        second = client.patch("/config", json={"target": TARGET}).json()
        os.kill(pid, signal.SIGKILL)
    old = load(model).calibration_digest
    save_calibrated(model, seed=1, exits=(0, 1, 1, 2, 2, 2, 3, 3), sure=0.6)
    assert load(model).calibration_digest != old
    with serving(tmp_path) as (client, _):
        after: dict[str, Any] = client.get("/config").json()
        versions = client.get("/config/history").json()["versions"]
        wanted = client.post("/config/simulate", json={"target": TARGET}).json()
        answer = client.post("/classify?trace=true", content=png(), headers={"Content-Type": "image/png"}).json()
        metrics = client.get("/metrics").text

    assert [each["version"] for each in versions] == [3, 2, 1]
    assert [each["changed_by"] for each in versions] == ["loopback", "loopback", "model"]
    assert json.loads((tmp_path / "config.json").read_text())["tiny"][-1]["version"] == 3
    # The target is solved anew with the table of the new weights.
    assert (after["version"], after["target"], after["updated_at"]) == (3, TARGET, second["updated_at"])
    assert after["thresholds"] == wanted["thresholds"] != second["thresholds"]
    assert after["expected"] == wanted["expected"]
    assert (answer["config_version"], answer["trace"][0]["threshold"]) == (3, after["thresholds"][0])
    for line in (
        "dvt_config_version 3.0",
        "dvt_config_store_up 1.0",
        f'dvt_threshold{{stage="0"}} {after["thresholds"][0]}',
    ):
        assert line in metrics
    assert "version 3 of the configuration was set for other weights" in (tmp_path / "log").read_text()


def test_serve_with_something_else_in_the_file_says_so_and_ends(tmp_path: Path) -> None:
    save_calibrated(tmp_path / "tiny")
    (tmp_path / "config.json").write_text("a shopping list")

    with (
        pytest.raises(ServerFailedError, match=r"DVT_CONFIG_STORE: .*config\.json cannot be read"),
        serving(tmp_path),
    ):
        raise AssertionError("it must not get ready")
