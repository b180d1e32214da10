"""The cost of an image outside of the stages: processor time of a service whose runner computes nothing."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from service.capacity.child import Child, ServerFailedError, served
from service.capacity.processor_time import cpu_s, family
from service.capacity.sample_images import sample_jpegs
from service.settings import Settings

_INSTANT = ("-m", "service.capacity.instant")
_NUM_JPEGS = 16
_NUM_CONNECTIONS = 16
_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Overhead:
    """Processor time in milliseconds of an image, with one image per request.

    Attributes:
        front_end_ms: time of a front-end process: HTTP, decoding, messages.
        engine_ms: time of the engine process: messages, queues, metrics, without computation.
    """

    front_end_ms: float
    engine_ms: float


def measure_overhead(settings: Settings, image_size: str, seconds: float = _SECONDS) -> Overhead:
    """Start a server with these settings and one front end, load it, and read its processes' processor time.

    Other work on the machine changes processor time less than latency.

    Raises:
        ServerFailedError: it did not start, answered nothing, or did not end as it should.
    """
    environment = {"DVT_MODEL": settings.model, "DVT_HTTP_WORKERS": "1", "DVT_MAX_INFLIGHT": str(settings.max_inflight)}
    jpegs = sample_jpegs(image_size, _NUM_JPEGS)
    with served(_INSTANT, environment) as child, ThreadPoolExecutor(_NUM_CONNECTIONS) as pool:
        front_ends = family(child.pid) - {child.pid}
        before = cpu_s([child.pid]), cpu_s(front_ends)
        until = time.monotonic() + seconds
        answered = sum(pool.map(lambda _: _answered(child, jpegs, until), range(_NUM_CONNECTIONS)))
        engine_s, front_end_s = cpu_s([child.pid]) - before[0], cpu_s(front_ends) - before[1]
    if not answered:
        raise ServerFailedError(f"the service answered none of the {image_size} sample images")
    return Overhead(front_end_ms=1000 * front_end_s / answered, engine_ms=1000 * engine_s / answered)


def _answered(child: Child, jpegs: Sequence[bytes], until: float) -> int:
    """Classify images one by one on one connection; returns the number of answers."""
    answered = 0
    with closing(HTTPConnection(child.host, child.port)) as connection:
        while time.monotonic() < until:
            connection.request("POST", "/classify", jpegs[answered % len(jpegs)], {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                break
            answered += 1
    return answered
