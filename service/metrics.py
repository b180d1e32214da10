"""The Prometheus metrics of a replica."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from platform import python_version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from service.configuration.operating_points import OperatingPoints
from service.engine.engine import Engine
from service.engine.interfaces import Observer
from service.engine.policy import ExitReason
from service.version import service_version

REJECTION_REASONS = ("full", "not_ready", "undecodable", "too_large", "deadline")
CANCELLATION_PLACES = ("decode", "queue", "compute")

# Single milliseconds matter here; above a second, only the order of magnitude.
_DURATION_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10),
)
_BATCH_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)


class Metrics(Observer):
    """Counts requests and images; the engine's `Observer`.

    Images in = exits + rejected + cancelled + failed, once everything has ended.
    """

    def __init__(self, num_stages: int, baseline_macs: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Info("dvt_build", "Versions of what runs.", registry=self.registry)
        build.info({"version": service_version(), "python": python_version(), "torch": version("torch")})
        self._baseline_macs_per_image = baseline_macs
        self._stages = [str(stage) for stage in range(num_stages)]
        self._requests = self._counter("requests", "Requests answered, by status code.", "code")
        self._request_duration = self._histogram(
            "request_duration_seconds", "From the head's arrival to the answer's end, without 4xx and 503."
        )
        self._images = self._counter("images", "Images presented in requests.")
        self._rejected = self._counter("rejected", "Images refused.", "reason")
        self._cancelled = self._counter("cancelled", "Images dropped since their client left.", "where")
        self._macs = self._counter("macs", "Multiply-accumulates executed for answered images.")
        self._baseline_macs = self._counter("baseline_macs", "What a plain ViT would have executed for them.")
        self._device_errors = self._counter("device_errors", "Failures of the device or the worker.", "kind")
        self._front_end_deaths = self._counter("front_end_deaths", "Front-end processes that ended unasked.")
        self._exits = self._counter("exits", "Images answered, by exit.", "stage", "reason")
        failed = self._counter("failed_images", "Images that failed inside a stage.", "stage")
        queue_duration = self._histogram("queue_duration_seconds", "Wait of an image for a stage.", "stage")
        stage_duration = self._histogram("stage_duration_seconds", "Duration of a batch.", "stage")
        batch_size = self._histogram("batch_size", "Images in a batch.", "stage", buckets=_BATCH_BUCKETS)
        self._failed = [failed.labels(stage) for stage in self._stages]
        self._queue_duration = [queue_duration.labels(stage) for stage in self._stages]
        self._stage_duration = [stage_duration.labels(stage) for stage in self._stages]
        self._batch_size = [batch_size.labels(stage) for stage in self._stages]
        # A series that appears only with its first event hides that event from rate().
        for reason in REJECTION_REASONS:
            self._rejected.labels(reason)
        for where in CANCELLATION_PLACES:
            self._cancelled.labels(where)
        for stage in self._stages:
            for exit_reason in ExitReason:
                self._exits.labels(stage, exit_reason.value)

    def watch(self, engine: Engine, operating_points: OperatingPoints) -> None:
        """Register the gauges; they are read from these objects at every scrape."""
        depth = self._gauge("queue_depth", "Images that wait for a stage.", "stage")
        for index, stage in enumerate(self._stages):
            depth.labels(stage).set_function(partial(_item, engine.queue_depths, index))
        threshold = self._gauge("threshold", "Confidence at which an image leaves.", "stage")
        for index, stage in enumerate(self._stages[:-1]):
            threshold.labels(stage).set_function(partial(_item, lambda: operating_points.current.thresholds, index))
        version = self._gauge("config_version", "Version of the live configuration.")
        version.set_function(lambda: operating_points.current.version)
        stored = self._gauge("config_store_up", "1 while the live configuration is in step with its store.")
        stored.set_function(lambda: operating_points.stored)
        level = self._gauge("load_level", "How far thresholds give way to the load; 0 is not at all.")
        level.set_function(lambda: engine.load_level)

    def render(self, accept: str = "") -> bytes:
        """All metrics, in the format of Prometheus or OpenMetrics that an `Accept` header asks for."""
        encode, _ = choose_encoder(accept)
        return encode(self.registry)

    def request_done(self, status: int, duration_s: float | None) -> None:
        """A request was answered with this status; None where it was refused, which says nothing about latency."""
        self._requests.labels(str(status)).inc()
        if duration_s is not None:
            self._request_duration.observe(duration_s)

    def images_presented(self, count: int) -> None:
        """A request brought this many images; each ends as an exit, rejected, cancelled or failed."""
        self._images.inc(count)

    def batch_done(self, stage: int, size: int, duration_s: float, queued_s: Sequence[float]) -> None:
        """A batch of `size` images ran for `duration_s`; its rows had waited `queued_s` each."""
        self._batch_size[stage].observe(size)
        self._stage_duration[stage].observe(duration_s)
        for seconds in queued_s:
            self._queue_duration[stage].observe(seconds)

    def image_exited(self, stage: int, reason: ExitReason, macs: int) -> None:
        """An image was answered."""
        self._exits.labels(self._stages[stage], reason.value).inc()
        self._macs.inc(macs)
        self._baseline_macs.inc(self._baseline_macs_per_image)

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused, for one of `REJECTION_REASONS`."""
        self._rejected.labels(reason).inc(count)

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped since their client left, in one of `CANCELLATION_PLACES`."""
        self._cancelled.labels(where).inc(count)

    def image_failed(self, stage: int) -> None:
        """An image failed inside a stage."""
        self._failed[stage].inc()

    def device_error(self, kind: str) -> None:
        """The device or the worker failed."""
        self._device_errors.labels(kind).inc()

    def front_end_died(self) -> None:
        """A front-end process ended unasked."""
        self._front_end_deaths.inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dvt_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"dvt_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float] = _DURATION_BUCKETS) -> Histogram:
        return Histogram(f"dvt_{name}", text, labels, registry=self.registry, buckets=buckets)


def _item(values: Callable[[], Sequence[float]], index: int) -> float:
    return float(values()[index])
