"""Metrics that add up or not, and memory that grows or not."""

import os
import subprocess

import pytest

from benchmarks.http.books import balance, memory, parse_metrics, sum_of, tree_rss_mb

TEXT = """
dvt_images_total 12.0
dvt_exits_total{stage="0",reason="confident"} 4.0
dvt_exits_total{stage="1",reason="final"} 3.0
dvt_rejected_total{reason="full"} 2.0
dvt_cancelled_total{where="queue"} 1.0
dvt_failed_images_total{stage="1"} 1.0
"""


def test_balance_is_what_no_end_accounts_for():
    assert balance(parse_metrics(TEXT)) == 1
    assert balance(parse_metrics(TEXT.replace('"queue"} 1.0', '"queue"} 2.0'))) == 0
    assert sum_of(parse_metrics(TEXT), "dvt_exits_total") == 7


def test_memory_is_the_slope_of_the_second_half():
    samples = [{"seconds": 30.0 * step, "rss_mb": 100.0 if step < 4 else 100.0 + 2 * (step - 4)} for step in range(8)]
    grown = memory(samples)

    assert (grown["first_mb"], grown["from_mb"], grown["to_mb"]) == (100, 100, 106)
    assert grown["slope_mb_per_min"] == pytest.approx(4)
    assert grown["growth_mb"] == pytest.approx(6)


def test_tree_rss_counts_children_and_nothing_of_a_process_that_is_gone():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert 0 < tree_rss_mb(child.pid) <= tree_rss_mb(os.getpid())
        child.kill()
    assert tree_rss_mb(child.pid) == 0
