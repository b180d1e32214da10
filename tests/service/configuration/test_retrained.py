"""Weights replaced under the same name, in real servers with one configuration file."""

from pathlib import Path

import httpx
import pytest
from calibrated import save_calibrated
from tiny_model import png

from service.capacity.child import SERVE, served
from weights.store import load

TARGET = {"accuracy": 0.5}


@pytest.mark.parametrize("workers", ["0", "1"])
def test_serve_with_new_weights_solves_the_target_with_their_table(tmp_path: Path, workers: str) -> None:
    model, log = tmp_path / "tiny", tmp_path / "log"
    environment = {
        "DVT_MODEL": str(save_calibrated(model)),
        "DVT_HTTP_WORKERS": workers,
        "DVT_TORCH_THREADS": "1",
        "DVT_CONFIG_STORE": str(tmp_path / "config.json"),
    }
    with served(SERVE, environment) as server:
        url = f"http://{server.host}:{server.port}"
        before = httpx.patch(f"{url}/config", json={"target": TARGET}).json()
    old = load(model).calibration_digest
    save_calibrated(model, seed=1, exits=(0, 1, 1, 2, 2, 2, 3, 3), sure=0.6)
    with served(SERVE, environment, log) as server:
        url = f"http://{server.host}:{server.port}"
        after = httpx.get(f"{url}/config").json()
        wanted = httpx.post(f"{url}/config/simulate", json={"target": TARGET}).json()
        answer = httpx.post(f"{url}/classify?trace=true", content=png(), headers={"Content-Type": "image/png"}).json()
        metrics = httpx.get(f"{url}/metrics").text

    assert load(model).calibration_digest != old
    assert (after["version"], after["target"], after["updated_at"]) == (2, TARGET, before["updated_at"])
    assert after["thresholds"] == wanted["thresholds"] != before["thresholds"]
    assert after["expected"] == wanted["expected"]
    stages = answer["trace"]
    assert answer["config_version"] == 2
    assert stages[0]["threshold"] == after["thresholds"][0]
    assert f'dvt_threshold{{stage="0"}} {after["thresholds"][0]}' in metrics
    assert "version 2 of the configuration was set for other weights" in log.read_text()
