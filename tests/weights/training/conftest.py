from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def quick_probes() -> Iterator[None]:
    """Classifiers that are fitted in a few steps, for tests that do not ask how well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weights.training.look_phase._PROBE_STEPS", 20)
        yield
