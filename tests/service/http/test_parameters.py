"""From a client's parameters to the policy of its images."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cascades import TINY

from service.configuration.operating_points import OperatingPoints
from service.engine.operating import OperatingPoint
from service.errors import InvalidParameterError
from service.http.parameters import ClassifyParameters, policy_maker, read_parameters

POINT = OperatingPoint(version=7, thresholds=(0.6, 0.5, 0.4), updated_at=datetime(2025, 1, 1, tzinfo=UTC))


def policy_of(num_classes=10, **parameters):
    context = SimpleNamespace(
        manifest=SimpleNamespace(architecture=replace(TINY, num_classes=num_classes)),
        engine=SimpleNamespace(stage_macs=(100, 300, 900, 2700)),
        operating_points=OperatingPoints((0.9, 0.8, 0.7)),
    )
    return policy_maker(ClassifyParameters(**parameters), context, 12.5)(POINT)


def test_policy_maker_without_parameters_follows_the_operating_point_it_is_given():
    policy = policy_of()

    assert (policy.thresholds, policy.config_version) == ((0.6, 0.5, 0.4), 7)
    assert (policy.min_stage, policy.max_stage, policy.max_macs) == (0, 3, None)
    assert (policy.deadline, policy.top_k, policy.trace) == (12.5, 5, False)
    assert policy.follows_config


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [("0", (0, 0, 0)), ("9e-1", (0.9, 0.9, 0.9)), (" .9 , 0. , 2 ", (0.9, 0, 2))],
)
def test_policy_maker_own_thresholds_replace_the_configured_ones(text, thresholds):
    policy = policy_of(thresholds=text)

    assert (policy.thresholds, policy.config_version, policy.follows_config) == (thresholds, 7, False)


@pytest.mark.parametrize("text", ["", "0.9,", "0.9 0.8 0.7", "nan", "-1", "1e999", "1_0", "0.9,0.8", "x" * 10_000])
def test_policy_maker_thresholds_that_are_not_numbers_in_range_are_refused(text):
    with pytest.raises(InvalidParameterError, match="threshold") as refusal:
        policy_of(thresholds=text)

    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(("num_classes", "top_k"), [(2, 2), (5, 5), (1000, 5)])
def test_policy_maker_top_k_by_default_is_five_or_all_classes(num_classes, top_k):
    assert policy_of(num_classes).top_k == top_k


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"top_k": 11}, r"at most 10.*got 11"),
        ({"max_stage": 4}, r"max_stage.*3.*4"),
        ({"min_stage": 2, "max_stage": 1}, r"min_stage.*1.*2"),
        ({"max_macs": 99}, r"max_macs.*100.*99"),
    ],
)
def test_policy_maker_what_the_cascade_cannot_honour_is_refused_before_admission(parameters, words):
    with pytest.raises(InvalidParameterError, match=words):
        policy_of(**parameters)


def test_policy_maker_limits_themselves_are_accepted():
    policy = policy_of(max_stage=0, max_macs=100, top_k=10, trace="true")

    assert (policy.max_stage, policy.max_macs, policy.top_k, policy.trace) == (0, 100, 10, True)
    assert policy_of(min_stage=3, trace="false").min_stage == 3


@pytest.mark.parametrize("text", ["1", "on", "True", ""])
def test_parameters_trace_that_is_neither_true_nor_false_is_refused(text):
    with pytest.raises(InvalidParameterError, match=r"trace.*true or false"):
        read_parameters(f"trace={text}".encode())


def test_parameters_documented_in_openapi_are_exactly_those_accepted(serving):
    operation = serving.app.openapi()["paths"]["/classify"]["post"]

    documented = {entry["name"] for entry in operation["parameters"] if entry["in"] == "query"}
    assert documented == set(ClassifyParameters.model_fields)
    assert all(entry["description"] for entry in operation["parameters"])
