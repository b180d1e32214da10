"""A target set through `/config` of a real server is met by images nobody has seen."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.targets import realise, unseen_images
from service.bench.child import SERVE, served

DATA = Path(__file__).parents[4] / "shared" / "data" / "cifar10-train.parquet"
MODEL = "dvt-cifar10"
MAX_MACS_OFF = 0.05
MAX_STANDARD_ERRORS = 2.5
CALIBRATION_IMAGES = 2500


@pytest.mark.skipif(not DATA.is_file(), reason="needs ../shared/data/cifar10-train.parquet")
def test_targets_are_met_on_unseen_images() -> None:
    images = unseen_images(MODEL, DATA)
    with served(SERVE, {"DVT_MODEL": MODEL}) as server:
        url = f"http://{server.host}:{server.port}"
        outcomes = [
            asyncio.run(realise(url, target, images)) for target in ({"fraction": 0.3}, {"accuracy_drop": 0.02})
        ]

    for met in outcomes:
        assert abs(met.macs_off) <= MAX_MACS_OFF, met
        assert abs(met.accuracy_off_in_standard_errors(len(images.labels), CALIBRATION_IMAGES)) <= MAX_STANDARD_ERRORS
    assert outcomes[0].mean_macs != outcomes[1].mean_macs
