"""A real server: its configuration survives a kill and new weights, and targets are met by images nobody has seen."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from cascades import TINY, randomised
from manifests import manifest_of
from PIL import Image

from benchmarks.targets import LabelledJpegs, realise
from service.capacity.child import SERVE, ServerFailedError, served
from weights.calibration.calibrate import held_out_logits
from weights.calibration.table import calibration_table
from weights.data import LabelledImages
from weights.store import load, save

TARGET = {"accuracy_drop": 0.2}
MAX_STANDARD_ERRORS = 3.0
NUM_CALIBRATION, NUM_UNSEEN = 300, 150


def save_calibrated(folder: Path, seed: int) -> LabelledJpegs:
    """Save a model that was calibrated with some images; returns others, whose classes its last exit knows."""
    cascade, manifest = randomised(TINY, seed=seed), manifest_of(TINY, thresholds=(0.5, 0.5, 0.5))
    coarse = np.random.default_rng(5).integers(0, 256, (NUM_CALIBRATION + NUM_UNSEEN, 3, 4, 4), dtype=np.uint8)
    pixels = coarse.repeat(7, axis=2).repeat(7, axis=3)
    no_labels = np.zeros(len(pixels), np.int64)
    logits = held_out_logits(cascade, LabelledImages(pixels, no_labels, manifest.class_names), manifest.preprocessing)
    labels = logits[-1].argmax(axis=-1)
    seen = slice(NUM_CALIBRATION)
    save(folder, cascade, manifest, "# tiny\n", calibration_table(logits[:, seen], labels[seen], (1.0,) * 4))
    files = []
    for image in pixels[NUM_CALIBRATION:]:
        files.append(BytesIO())
        Image.fromarray(image.transpose(1, 2, 0)).save(files[-1], "PNG")
    return LabelledJpegs([file.getvalue() for file in files], labels[NUM_CALIBRATION:].tolist())


@contextmanager
def serving(folder: Path) -> Iterator[tuple[httpx.Client, int]]:
    """A client of a server with the folder's model and configuration, and the server's process."""
    environment = {
        "DVT_MODEL": str(folder / "tiny"),
        "DVT_HTTP_WORKERS": "0",
        "DVT_TORCH_THREADS": "1",
        "DVT_DTYPE": "float32",
        "DVT_CONFIG_STORE": str(folder / "config.json"),
    }
    with (
        served(SERVE, environment, folder / "log") as server,
        httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=30) as client,
    ):
        yield client, server.pid


def test_configuration_survives_a_kill_and_other_weights_whose_targets_unseen_images_meet(tmp_path: Path) -> None:
    save_calibrated(tmp_path / "tiny", seed=2)
    with suppress(ServerFailedError), serving(tmp_path) as (client, pid):
        assert client.get("/config").json()["version"] == 1
        client.patch("/config", json={"thresholds": [0.1, 0.2, 0.3]}).raise_for_status()
        before = client.patch("/config", json={"target": TARGET}).json()
        os.kill(pid, signal.SIGKILL)
    digest = load(tmp_path / "tiny").calibration_digest
    unseen = save_calibrated(tmp_path / "tiny", seed=1)
    assert load(tmp_path / "tiny").calibration_digest != digest
    with serving(tmp_path) as (client, _):
        after: dict[str, Any] = client.get("/config").json()
        versions = client.get("/config/history").json()["versions"]
        wanted = client.post("/config/simulate", json={"target": TARGET}).json()
        answer = client.post("/classify?trace=true", content=unseen.jpegs[0], headers={"Content-Type": "image/png"})
        metrics = client.get("/metrics").text
        outcomes = [asyncio.run(realise(str(client.base_url), {"fraction": share}, unseen)) for share in (0.4, 1.5)]

    assert [each["version"] for each in versions] == [3, 2, 1]
    assert [each["changed_by"] for each in versions] == ["loopback", "loopback", "model"]
    # The target is solved anew with the table of the new weights.
    assert (after["version"], after["target"], after["updated_at"]) == (3, TARGET, before["updated_at"])
    assert after["thresholds"] == wanted["thresholds"] != before["thresholds"]
    assert after["expected"] == wanted["expected"]
    assert answer.json()["config_version"] == 3
    assert answer.json()["trace"][0]["threshold"] == after["thresholds"][0]
    for line in (
        "dvt_config_version 3.0",
        "dvt_config_store_up 1.0",
        f'dvt_threshold{{stage="0"}} {after["thresholds"][0]}',
    ):
        assert line in metrics
    assert "version 3 of the configuration was set for other weights" in (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["tiny"][-1]["version"] == 5
    for met in outcomes:
        assert max(map(abs, met.standard_errors_off(NUM_UNSEEN, NUM_CALIBRATION))) <= MAX_STANDARD_ERRORS, met
    assert outcomes[0].mean_macs < outcomes[1].mean_macs
