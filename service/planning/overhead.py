"""What an image costs outside of the stages: processor time of the service with a runner that answers at once."""

import asyncio
from dataclasses import dataclass

from service.bench.books import cpu_s, family, read_metrics, sum_of
from service.bench.child import Child, served
from service.bench.http.measure import AnswerError, client, meet
from service.bench.sample_images import sample_jpegs
from service.settings import Settings

_INSTANT = ("-m", "service.bench.http.instant")
_DISTINCT_IMAGES = 16
_CONNECTIONS = 64
_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Overhead:
    """Milliseconds of one core for an image that comes in a request of its own.

    Attributes:
        front_end_ms: of a front-end process: HTTP, decoding, messages.
        engine_ms: of the engine process: messages, queues, metrics; nothing is computed.
    """

    front_end_ms: float
    engine_ms: float


def measure_overhead(settings: Settings, image_size: str, seconds: float = _SECONDS) -> Overhead:
    """Start a server with these settings and one front end, load it, and see what its processes used.

    It is processor time, so that a busy machine does not lengthen it as it would a latency.

    Raises:
        AnswerError: nothing was answered.
        ServerFailedError: it did not start, or did not end as it should.
    """
    environment = {"DVT_MODEL": settings.model, "DVT_HTTP_WORKERS": "1", "DVT_MAX_INFLIGHT": str(settings.max_inflight)}
    jpegs = sample_jpegs(image_size, _DISTINCT_IMAGES)
    with served(_INSTANT, environment) as child, client(1, jpegs) as sender:
        target = meet(child.host, child.port, jpegs)
        front_ends = family(child.pid) - {child.pid}
        before = _answered(child), cpu_s([child.pid]), cpu_s(front_ends)
        sender.send(target, images=1, connections=_CONNECTIONS, seconds=seconds)
        after = _answered(child), cpu_s([child.pid]), cpu_s(front_ends)
    answered, engine_s, front_end_s = (later - earlier for earlier, later in zip(before, after, strict=True))
    if not answered:
        raise AnswerError(f"the service answered none of the {image_size} sample images")
    return Overhead(front_end_ms=1000 * front_end_s / answered, engine_ms=1000 * engine_s / answered)


def _answered(child: Child) -> float:
    return sum_of(asyncio.run(read_metrics(child.host, child.port)), "dvt_exits_total")
