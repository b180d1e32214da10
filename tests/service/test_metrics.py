"""What `/metrics` is made of; the names are a contract with dashboards and alerts."""

import sys
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.engine.policy import ExitReason
from service.metrics import CANCELLATION_PLACES, REJECTION_REASONS, Metrics

DOCUMENTED = {
    "dvt_requests_total": ("counter", {"code"}),
    "dvt_images_total": ("counter", set()),
    "dvt_request_duration_seconds": ("histogram", set()),
    "dvt_queue_duration_seconds": ("histogram", {"stage"}),
    "dvt_stage_duration_seconds": ("histogram", {"stage"}),
    "dvt_batch_size": ("histogram", {"stage"}),
    "dvt_queue_depth": ("gauge", {"stage"}),
    "dvt_exits_total": ("counter", {"stage", "reason"}),
    "dvt_macs_total": ("counter", set()),
    "dvt_baseline_macs_total": ("counter", set()),
    "dvt_rejected_total": ("counter", {"reason"}),
    "dvt_cancelled_total": ("counter", {"where"}),
    "dvt_failed_images_total": ("counter", {"stage"}),
    "dvt_threshold": ("gauge", {"stage"}),
    "dvt_config_version": ("gauge", set()),
    "dvt_config_store_up": ("gauge", set()),
    "dvt_load_level": ("gauge", set()),
    "dvt_device_errors_total": ("counter", {"kind"}),
    "dvt_front_end_deaths_total": ("counter", set()),
    "dvt_build_info": ("gauge", {"version", "python", "torch"}),
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(num_stages=3, baseline_macs=1000)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def watched(metrics: Metrics) -> tuple[SimpleNamespace, SimpleNamespace]:
    """The engine and the configuration that the gauges read."""
    engine = SimpleNamespace(queue_depths=lambda: (0, 5, 0), load_level=1)
    points = SimpleNamespace(current=SimpleNamespace(thresholds=(0.9, 0.8), version=1), stored=True)
    metrics.watch(engine, points)
    return engine, points


def test_render_after_one_event_of_each_kind_holds_exactly_the_documented_metrics(metrics: Metrics) -> None:
    watched(metrics)
    metrics.request_done(200, 0.1)
    metrics.device_error("device_lost")

    # Type and labels of everything in the text that a scraper reads.
    assert {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name.startswith("dvt_")
    } == DOCUMENTED


def test_render_before_any_event_has_every_series_whose_labels_are_known(metrics: Metrics) -> None:
    for reason in REJECTION_REASONS:
        assert value(metrics, "dvt_rejected_total", reason=reason) == 0
    for where in CANCELLATION_PLACES:
        assert value(metrics, "dvt_cancelled_total", where=where) == 0
    for stage in "012":
        assert value(metrics, "dvt_failed_images_total", stage=stage) == 0
        assert value(metrics, "dvt_batch_size_count", stage=stage) == 0
        for exit_reason in ExitReason:
            assert value(metrics, "dvt_exits_total", stage=stage, reason=exit_reason.value) == 0


def test_events_are_added_whole_and_to_their_own_instance(metrics: Metrics) -> None:
    metrics.request_done(429, None)  # refused: no latency
    metrics.request_done(200, 0.5)
    metrics.images_presented(9)
    metrics.image_rejected("full", 4)
    metrics.image_cancelled("decode", 3)
    metrics.image_exited(0, ExitReason.CONFIDENT, macs=30)
    metrics.image_exited(2, ExitReason.FINAL, macs=700)
    metrics.batch_done(1, 3, 0.25, [0.1, 0.2, 0.3])

    assert value(metrics, "dvt_requests_total", code="429") == 1
    assert value(metrics, "dvt_request_duration_seconds_count") == 1
    assert value(metrics, "dvt_request_duration_seconds_sum") == 0.5
    assert value(metrics, "dvt_images_total") == 9
    assert value(metrics, "dvt_rejected_total", reason="full") == 4
    assert value(metrics, "dvt_cancelled_total", where="decode") == 3
    assert value(metrics, "dvt_exits_total", stage="0", reason="confident") == 1
    assert value(metrics, "dvt_exits_total", stage="2", reason="final") == 1
    assert value(metrics, "dvt_macs_total") == 730
    assert value(metrics, "dvt_baseline_macs_total") == 2000
    assert value(metrics, "dvt_batch_size_sum", stage="1") == 3
    assert value(metrics, "dvt_batch_size_count", stage="1") == 1
    assert value(metrics, "dvt_stage_duration_seconds_sum", stage="1") == 0.25
    assert value(metrics, "dvt_queue_duration_seconds_count", stage="1") == 3
    assert value(metrics, "dvt_queue_duration_seconds_sum", stage="1") == pytest.approx(0.6)
    assert value(metrics, "dvt_batch_size_count", stage="0") == 0
    assert value(Metrics(num_stages=3, baseline_macs=1000), "dvt_images_total") == 0


def test_watch_gauges_are_read_again_at_every_scrape(metrics: Metrics) -> None:
    engine, points = watched(metrics)
    metrics.render()
    points.current, points.stored, engine.load_level = SimpleNamespace(thresholds=(0.25, 0.8), version=2), False, 3

    assert [value(metrics, "dvt_queue_depth", stage=stage) for stage in "012"] == [0, 5, 0]
    assert [value(metrics, "dvt_threshold", stage=stage) for stage in "012"] == [0.25, 0.8, None]
    assert value(metrics, "dvt_config_version") == 2
    assert value(metrics, "dvt_config_store_up") == 0
    assert value(metrics, "dvt_load_level") == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_render_says_what_the_process_takes(metrics: Metrics) -> None:
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds"):
        assert (value(metrics, name) or 0) > 0
