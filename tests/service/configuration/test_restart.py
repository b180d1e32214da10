"""A changed configuration survives the end of the process, however it ends."""

import json
import os
import signal
from contextlib import suppress

import httpx
import pytest
from tiny_model import save_tiny_model

from service.capacity.child import SERVE, ServerFailedError, served


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_configuration_survives_a_clean_end_and_a_kill(model, tmp_path, workers) -> None:
    path = tmp_path / "config.json"
    environment = {"DVT_MODEL": model, "DVT_HTTP_WORKERS": workers, "DVT_CONFIG_STORE": str(path)}

    with served(SERVE, environment) as server:
        url = f"http://{server.host}:{server.port}"
        assert httpx.get(f"{url}/config").json()["version"] == 1
        first = httpx.patch(f"{url}/config", json={"thresholds": [0.1, 0.2, 0.3]}).json()
    with suppress(ServerFailedError), served(SERVE, environment) as server:
        url = f"http://{server.host}:{server.port}"
        assert httpx.get(f"{url}/config").json() == first
        second = httpx.patch(f"{url}/config", json={"thresholds": 0.5}).json()
        os.kill(server.pid, signal.SIGKILL)
    with served(SERVE, environment) as server:
        url = f"http://{server.host}:{server.port}"
        assert httpx.get(f"{url}/config").json() == second
        versions = httpx.get(f"{url}/config/history").json()["versions"]
        metrics = httpx.get(f"{url}/metrics").text

    assert [each["version"] for each in versions] == [3, 2, 1]
    assert [each["changed_by"] for each in versions] == ["loopback", "loopback", "model"]
    assert "dvt_config_version 3.0" in metrics
    assert "dvt_config_store_up 1.0" in metrics
    assert json.loads(path.read_text())["tiny"][-1]["version"] == 3


def test_serve_with_something_else_in_the_file_says_so_and_ends(model, tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text("a shopping list")

    with (
        pytest.raises(ServerFailedError, match=r"DVT_CONFIG_STORE: .*config\.json cannot be read"),
        served(SERVE, {"DVT_MODEL": model, "DVT_CONFIG_STORE": str(path)}),
    ):
        raise AssertionError("it must not get ready")
