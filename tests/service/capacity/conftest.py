"""Recorded times whose every figure is known, and a tiny model with a calibration table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from calibrated import save_calibrated

from service.capacity.recorded import RecordedTimes
from service.capacity.replica import SimulatedReplica
from weights.store import StoredModel, load


def recorded_times(**changes: object) -> RecordedTimes:
    """Two stages of 2 and 4 ms at one image, 8 and 16 ms at eight."""
    fields = {
        "model": "tiny",
        "device": "cpu",
        "dtype": "float32",
        "machine": "a machine",
        "cores": 2,
        "threads": 1,
        "padded": False,
        "sizes": (1, 8),
        "seconds": ((0.002, 0.008), (0.004, 0.016)),
        "ratios": (1.0,),
        "engine_ms": 0.0,
        "front_end_ms": {"small": 0.5},
    }
    return RecordedTimes.model_validate({**fields, **changes})


@pytest.fixture(scope="session")
def times_of() -> Callable[..., RecordedTimes]:
    return recorded_times


@pytest.fixture(scope="session")
def replica_of() -> Callable[..., SimulatedReplica]:
    """A replica whose images leave one in two at each of its stages."""

    def make(times: RecordedTimes | None = None, **changes: object) -> SimulatedReplica:
        fields = {
            "times": times or recorded_times(),
            "exits": np.array([0, 1]),
            "max_batch_size": 8,
            "max_inflight": 512,
            "front_ends": 1,
            "overhead_s": 0.0,
        }
        return SimulatedReplica(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_calibrated(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def stored(model: Path) -> StoredModel:
    return load(model)
