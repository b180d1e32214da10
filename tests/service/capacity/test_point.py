"""Thresholds to plan for, from any of the ways to ask for them."""

from dataclasses import replace

import pytest

from service.capacity.point import calibration_of, thresholds_for
from service.errors import InvalidParameterError
from weights.calibration.thresholds import exit_stages


def test_thresholds_for_nothing_are_the_models_own(stored):
    assert thresholds_for(stored) == (0.5, 0.5, 0.5)
    assert thresholds_for(stored, text="0.9") == (0.9, 0.9, 0.9)
    assert thresholds_for(stored, text="0.9,0.8,0") == (0.9, 0.8, 0.0)


def test_thresholds_for_a_target_reach_it_on_the_calibration_table(stored):
    table = calibration_of(stored)

    assert set(exit_stages(table.confidence_EN, thresholds_for(stored, mean_macs=1e12)).tolist()) == {0, 1, 2, 3}
    assert set(exit_stages(table.confidence_EN, thresholds_for(stored, accuracy=0.5)).tolist()) == {0}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({"mean_macs": 1.0}, "below"),
        ({"accuracy": 1.5}, "above"),
        ({"text": "0.5", "accuracy": 0.5}, "exclude each other"),
        ({"text": "high"}, "high"),
    ],
)
def test_thresholds_for_what_cannot_be_are_refused(stored, targets, words):
    with pytest.raises(InvalidParameterError, match=words):
        thresholds_for(stored, **targets)


def test_calibration_of_a_model_without_a_table_is_refused(stored):
    with pytest.raises(InvalidParameterError, match="tiny has no calibration table"):
        calibration_of(replace(stored, calibration=None))
