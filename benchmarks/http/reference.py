"""Decoding and computing in one process without HTTP: the reference for a server.

    python -m benchmarks.http.reference < commands

One JSON command a line, one JSON answer a line, so that one process answers between measurements of a server:
`{"do": "throughput", "jpegs": [hex …], "seconds": 3}` or
`{"do": "latency", "jpegs": [hex …], "seconds": 3, "pause_s": 0}`.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

from service.capacity.walks import BatchSizes, held_together
from service.engine.engine import Engine
from service.engine.policy import Policy
from service.images.decoder import ImageDecoder
from service.replica.backend import build_runner
from service.replica.process import settle_heap
from service.settings import Settings, load_settings
from weights.store import load

_WARM_UP_TIMEOUT_S = 600.0
_TOP_K = 5


class Reference:
    """Only the decoder and the engine of a service with these settings."""

    def __init__(self, settings: Settings) -> None:
        stored = load(settings.model)
        self._settings = settings
        self._decoder = ImageDecoder(
            stored.manifest.preprocessing, max_bytes=settings.max_body_bytes, max_pixels=settings.max_image_pixels
        )
        classes = stored.manifest.architecture.num_classes
        self._policy = Policy(
            thresholds=stored.manifest.thresholds,
            config_version=1,
            max_stage=len(stored.manifest.thresholds),
            top_k=min(_TOP_K, classes),
        )
        self._runner = build_runner(stored, settings)
        self._engine = Engine(
            self._runner,
            observer=BatchSizes(),
            max_inflight=settings.max_inflight,
            max_batch_size=settings.max_batch_size,
        )
        self._engine.start()
        self._engine.wait_ready(_WARM_UP_TIMEOUT_S)

    def images_per_s(self, jpegs: Sequence[bytes], seconds: float) -> float:
        """Images decoded in the pool and answered by the engine, as many in flight as are admitted."""
        room = threading.BoundedSemaphore(self._settings.max_inflight)
        answered = 0

        def one(jpeg: bytes) -> None:
            task = self._engine.submit(self._decoder.decode(jpeg), self._policy)
            task.future.add_done_callback(lambda _: done())

        def done() -> None:
            nonlocal answered
            answered += 1  # on the engine's one thread only
            room.release()

        source = cycle(jpegs)
        started = time.perf_counter()
        with ThreadPoolExecutor(self._settings.decode_threads) as pool:
            while time.perf_counter() - started < seconds:
                room.acquire()
                pool.submit(one, next(source))
            # Wait for the images submitted within the time; the waiting counts.
            for _ in range(self._settings.max_inflight):
                room.acquire()
        return answered / (time.perf_counter() - started)

    def latencies_s(self, jpegs: Sequence[bytes], seconds: float, pause_s: float) -> list[float]:
        """Seconds to decode and compute one image after the other on this thread, with a pause between them."""
        latencies, source = [], cycle(jpegs)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            time.sleep(pause_s)
            started = time.perf_counter()
            held_together(self._runner, [self._decoder.decode(next(source))], self._policy, 1)
            latencies.append(time.perf_counter() - started)
        return latencies

    def close(self) -> None:
        """End the engine's thread."""
        self._engine.stop(drain=False, timeout_s=10.0)


def main() -> None:
    """Answer commands from standard input until it ends."""
    reference = Reference(load_settings())
    settle_heap()
    _say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        jpegs = [bytes.fromhex(text) for text in command["jpegs"]]
        if command["do"] == "throughput":
            _say({"images_per_s": reference.images_per_s(jpegs, command["seconds"])})
        else:
            _say({"latencies_s": reference.latencies_s(jpegs, command["seconds"], command["pause_s"])})
    reference.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
