"""Every fault a soak can show fails its check."""

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.http.books import parse_metrics
from benchmarks.soak.checks import judge
from benchmarks.soak.clients import CLIENTS, SoakRecord

SAMPLES = [{"seconds": 30.0 * step, "rss_mb": 100.0, "images": 0.0, "queued": 0.0} for step in range(6)]
GOOD_METRICS = 'dvt_images_total 1.0\ndvt_exits_total{stage="0"} 1.0\ndvt_requests_total{code="503"} 1.0\n'


def seen(**changes: object) -> SoakRecord:
    return replace(SoakRecord(sent=Counter(dict.fromkeys(CLIENTS, 1)), samples=SAMPLES, full_status=200), **changes)


def failed(books: SoakRecord, metrics: str = GOOD_METRICS) -> list[str]:
    return [check.name for check in judge(books, parse_metrics(metrics), max_growth_mb=5.0) if not check.ok]


def test_judge_sound_books_pass():
    assert failed(seen()) == []
    assert failed(seen(full_status=None)) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"lost": 1}, "answers lost"),
        ({"crossed": 1}, "answers with another's id"),
        ({"wrong": ["honest: 500"]}, "answers nobody should get"),
        ({"full_status": 429}, "request for every permit"),
        ({"sent": Counter({"honest": 1})}, "kinds of clients that never came"),
        ({"samples": [sample | {"rss_mb": 100 + sample["seconds"]} for sample in SAMPLES]}, "memory, second half"),
    ],
)
def test_judge_every_fault_of_the_answers_fails_a_check(changes, name):
    assert failed(seen(**changes)) == [name]


def test_judge_memory_of_a_short_soak_is_told_and_not_judged():
    samples = [{**sample, "seconds": sample["seconds"] / 30, "rss_mb": 100 + sample["seconds"]} for sample in SAMPLES]
    *_, memory = judge(seen(samples=samples), parse_metrics(GOOD_METRICS), max_growth_mb=5.0)

    assert memory.ok
    assert "too short" in memory.found


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ("dvt_images_total 2.0\n", "images not accounted for"),
        ('dvt_queue_depth{stage="2"} 1.0\n', "images left in queues"),
        ('dvt_requests_total{code="500"} 1.0\n', "5xx other than 503 and 504"),
        ('dvt_images_total 1.0\ndvt_failed_images_total{stage="0"} 1.0\n', "images that failed"),
    ],
)
def test_judge_every_fault_of_the_metrics_fails_a_check(metrics, name):
    assert failed(seen(), metrics) == [name]
