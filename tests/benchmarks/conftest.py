"""A tiny model with a calibration table."""

from pathlib import Path

import pytest
from calibrated import save_calibrated

from weights.store import StoredModel, load


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_calibrated(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def stored(model: Path) -> StoredModel:
    return load(model)
