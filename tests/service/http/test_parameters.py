"""From a client's parameters to the policy of its images."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cascades import TINY
from pydantic import ValidationError

from service.configuration.operating_points import OperatingPoints
from service.engine.operating import OperatingPoint
from service.errors import InvalidParameterError
from service.http.parameters import ClassifyParameters, policy_maker

POINT = OperatingPoint(version=7, thresholds=(0.6, 0.5, 0.4), updated_at=datetime(2025, 1, 1, tzinfo=UTC))


def context(num_classes=10):
    return SimpleNamespace(
        manifest=SimpleNamespace(architecture=replace(TINY, num_classes=num_classes)),
        engine=SimpleNamespace(stage_macs=(100, 300, 900, 2700)),
        operating_points=OperatingPoints((0.9, 0.8, 0.7)),
    )


def policy_of(**parameters):
    return policy_maker(ClassifyParameters(**parameters), context(), 12.5)(POINT)


def test_policy_maker_without_parameters_follows_the_operating_point_it_is_given():
    policy = policy_of()

    assert (policy.thresholds, policy.config_version) == ((0.6, 0.5, 0.4), 7)
    assert (policy.min_stage, policy.max_stage, policy.max_macs) == (0, 3, None)
    assert (policy.deadline, policy.top_k, policy.trace) == (12.5, 5, False)
    assert policy.follows_config


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [
        ("0", (0, 0, 0)),
        ("0.9", (0.9, 0.9, 0.9)),
        ("1.5", (1.5, 1.5, 1.5)),
        ("0.9,0,2", (0.9, 0, 2)),
        (" 0.9 , 0.8 , 0.7 ", (0.9, 0.8, 0.7)),
        ("9e-1", (0.9, 0.9, 0.9)),
    ],
)
def test_policy_maker_own_thresholds_replace_the_configured_ones(text, thresholds):
    policy = policy_of(thresholds=text)

    assert policy.thresholds == thresholds
    assert policy.config_version == 7
    assert not policy.follows_config


@pytest.mark.parametrize("text", ["", ",", "0.9,", "0.9 0.8 0.7", "0.9;0.8", "nan", "inf", "-1", "1e999", "0x1", "1_0"])
def test_policy_maker_thresholds_that_are_not_numbers_in_range_are_refused(text):
    with pytest.raises(InvalidParameterError, match="threshold"):
        policy_of(thresholds=text)


def test_policy_maker_long_garbage_is_shortened_in_the_error():
    with pytest.raises(InvalidParameterError) as refusal:
        policy_of(thresholds="x" * 10_000)

    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(("num_classes", "top_k"), [(2, 2), (5, 5), (1000, 5)])
def test_policy_maker_top_k_by_default_is_five_or_all_classes(num_classes, top_k):
    assert policy_maker(ClassifyParameters(), context(num_classes), None)(POINT).top_k == top_k


def test_policy_maker_top_k_above_the_classes_is_refused_naming_both():
    with pytest.raises(InvalidParameterError, match=r"at most 3.*got 4"):
        policy_maker(ClassifyParameters(top_k=4), context(num_classes=3), None)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_stage": 4}, r"max_stage.*3.*4"),
        ({"min_stage": 4}, r"min_stage.*3.*4"),
        ({"min_stage": 2, "max_stage": 1}, r"min_stage.*1.*2"),
        ({"max_macs": 99}, r"max_macs.*100.*99"),
    ],
)
def test_policy_maker_what_the_cascade_cannot_honour_is_refused_before_admission(parameters, words):
    with pytest.raises(InvalidParameterError, match=words):
        policy_maker(ClassifyParameters(**parameters), context(), None)


@pytest.mark.parametrize("parameters", [{"max_stage": 0}, {"min_stage": 3}, {"max_macs": 100}, {"top_k": 10}])
def test_policy_maker_limits_themselves_are_accepted(parameters):
    policy = policy_of(**parameters)

    (name, value) = next(iter(parameters.items()))
    assert getattr(policy, name) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_parameters_trace_is_true_or_false(text, value):
    assert ClassifyParameters(trace=text).trace is value


@pytest.mark.parametrize("text", ["1", "0", "yes", "on", "True", "", "t"])
def test_parameters_trace_that_is_something_else_is_refused(text):
    with pytest.raises(ValidationError, match="true or false"):
        ClassifyParameters(trace=text)


def test_parameters_documented_in_openapi_are_exactly_those_accepted(serving):
    operation = serving.app.openapi()["paths"]["/classify"]["post"]

    documented = {entry["name"] for entry in operation["parameters"] if entry["in"] == "query"}
    assert documented == set(ClassifyParameters.model_fields)
    assert all(entry["description"] for entry in operation["parameters"])
