import pytest
from engine_fakes import STAGE_MACS, policy

from service.engine.policy import ExitReason
from service.errors import InvalidParameterError


@pytest.mark.parametrize(
    ("stage", "confidence", "changes", "reason"),
    [
        (0, 0.5, {}, ExitReason.CONFIDENT),
        (0, 0.49, {}, None),
        (0, 0.0, {"thresholds": (0.0, 0.5, 0.5)}, ExitReason.CONFIDENT),
        (0, 1.0, {"thresholds": (1.01, 0.5, 0.5)}, None),
        (1, 0.9, {"min_stage": 2}, None),
        (2, 0.9, {"min_stage": 2}, ExitReason.CONFIDENT),
        (1, 0.1, {"max_stage": 1}, ExitReason.MAX_STAGE),
        (1, 0.9, {"max_stage": 1}, ExitReason.CONFIDENT),
        (0, 0.1, {"max_macs": 3}, None),
        (0, 0.1, {"max_macs": 2}, ExitReason.MAX_MACS),
        (3, 0.1, {"min_stage": 3}, ExitReason.FINAL),
    ],
)
def test_exit_reason_follows_thresholds_and_limits(stage, confidence, changes, reason):
    next_macs = sum(STAGE_MACS[: stage + 2]) if stage < 3 else None
    assert policy(**changes).exit_reason(stage, confidence, next_macs) == reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": (0.5,)}, "expected 3 thresholds, got 1"),
        ({"max_stage": 4}, "max_stage must be from 0 to 3, got 4"),
        ({"max_stage": -1}, "max_stage must be from 0 to 3, got -1"),
        ({"max_stage": 1, "min_stage": 2}, "min_stage must be from 0 to 1, got 2"),
        ({"max_macs": 0}, "max_macs must be at least 1, the first stage's, got 0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_check_impossible_policy_raises_naming_value_and_limit(changes, message):
    with pytest.raises(InvalidParameterError, match=message):
        policy(**changes).check(STAGE_MACS)


def test_check_policy_at_every_limit_passes():
    policy(max_stage=3, min_stage=3, max_macs=1, top_k=1).check(STAGE_MACS)
