import hashlib

import numpy as np
import pytest

from weights.data import DataError
from weights.split_by_position import split_by_position


def test_split_by_position_parts_are_disjoint_even_over_classes_and_seeded() -> None:
    labels = np.repeat(np.arange(4), 50)
    parts = split_by_position(labels, 0.2, seed=1)
    everything = np.concatenate([parts.train, parts.calibration, parts.test])
    assert sorted(everything.tolist()) == list(range(200))
    assert np.bincount(labels[parts.calibration]).tolist() == [5, 5, 5, 5]
    assert np.bincount(labels[parts.test]).tolist() == [5, 5, 5, 5]
    assert np.array_equal(split_by_position(labels, 0.2, seed=1).test, parts.test)
    assert not np.array_equal(split_by_position(labels, 0.2, seed=2).test, parts.test)


def test_split_by_position_of_the_shipped_models_is_what_it_was() -> None:
    parts = split_by_position(np.arange(50_000) * 7919 % 10, 0.1, seed=0)
    assert (len(parts.train), len(parts.calibration), len(parts.test)) == (45_000, 2_500, 2_500)
    assert hashlib.sha256(parts.test.astype("<i8").tobytes()).hexdigest()[:16] == "510b318ca001f4d1"


@pytest.mark.parametrize("holdout", [0.0, 1.0, 0.01])
def test_split_by_position_impossible_holdout_raises(holdout: float) -> None:
    with pytest.raises(DataError, match="holdout"):
        split_by_position(np.repeat(np.arange(4), 5), holdout, seed=0)
