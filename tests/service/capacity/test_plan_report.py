"""Figures that follow from a plan, and tables that can be read."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from service.capacity.plan import Demand, make_plan
from service.capacity.plan_report import Question, print_report, report

QUESTION = Question(
    thresholds=(0.5,), walk_macs=(10, 30), overhead_from="as given", price_per_hour=3.6, images=1000, seed=0
)


def figures_of(replica, question=QUESTION):
    plan = make_plan(replica, Demand(rate=1000, p99_ms=40), images=300, seed=0)
    return plan, report(plan, replica, question)


def test_report_costs_and_macs_follow_from_rates(replica_of):
    plan, figures = figures_of(replica_of())

    assert figures["mean_macs"] == 20
    assert figures["replicas"] == {"needed": plan.needed, "spare": 1, "run": plan.needed + 1}
    normal = figures["loads"]["normal"]
    assert normal["replicas"] == plan.replicas
    # Two cores a replica; 3.6 an hour is 0.001 a second.
    assert normal["images_per_unit_hour"] == pytest.approx(plan.normal.rate * 1800)
    assert normal["macs_per_unit_hour"] == pytest.approx(plan.normal.rate * 1800 * 20)
    assert normal["cost_per_million"] == pytest.approx(1000 / plan.normal.rate)
    assert json.loads(json.dumps(figures))["seed"] == 0


def test_report_of_a_gpu_counts_the_gpu(replica_of, times_of):
    plan, figures = figures_of(replica_of(times_of(device="cuda", cores=16)))

    assert figures["loads"]["limit"]["unit"] == "GPU"
    assert figures["loads"]["limit"]["images_per_unit_hour"] == pytest.approx(plan.limit.rate * 3600)


@pytest.mark.parametrize("price", [None, 3.6])
def test_print_report_says_what_is_counted_and_what_is_not(replica_of, price):
    plan, figures = figures_of(replica_of(overhead_s=0.001), replace(QUESTION, price_per_hour=price))
    console = Console(width=200, file=StringIO())
    print_report(figures, console)
    printed = console.file.getvalue()

    for words in (f"{plan.replicas} replicas", "spares lost", "as given", "not counted", "network", "a machine"):
        assert words in printed
    assert ("cost per million" in printed) == (price is not None)
