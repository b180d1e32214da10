"""Clients that keep their connections and send one image after the other, and count what goes wrong."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import httpx
from tiny_model import png
from waiting import PATIENCE_S, eventually

# Of a client before its next request: a loaded machine would start replicas slowly.
_PAUSE_S = 0.2

COLORS = ("black", "white", "red", "green", "blue")
# Behind the end of one image, where no decoder looks: a body of the size of a photograph.
_LARGE = bytes(300_000)
PNG = {"content-type": "image/png"}


@dataclass(frozen=True)
class Sample:
    """An image with the answer that is right for it."""

    image: bytes
    label: str
    confidence: float

    def is_answered_by(self, answer: dict[str, object], request_id: str) -> bool:
        confidence = answer["confidence"]
        assert isinstance(confidence, float)
        return (
            answer["id"] == request_id
            and answer["label"] == self.label
            # The same model everywhere, in batches of other sizes.
            and abs(confidence - self.confidence) < 1e-3
        )


def samples_of(url: str) -> list[Sample]:
    """Images with the answers that the server at this URL gives."""
    first, *others = map(png, COLORS)
    images = [first + _LARGE, *others]
    answers = [httpx.post(f"{url}/classify", content=image, headers=PNG).json() for image in images]
    assert len({answer["confidence"] for answer in answers}) == len(COLORS)
    return [Sample(image, answer["label"], answer["confidence"]) for image, answer in zip(images, answers, strict=True)]


@dataclass
class ClientLoad:
    """A few clients at one URL, at work until the end of the `with` block.

    Attributes:
        failures: whatever was not a right answer, by what it was.
        answered: right answers of each client.
    """

    url: str
    samples: list[Sample]
    num_clients: int = 4
    failures: Counter[str] = field(default_factory=Counter)
    answered: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "ClientLoad":
        self.answered = [0] * self.num_clients
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in range(self.num_clients)]
        for thread in self._threads:
            thread.start()
        self.until_answered(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a request hangs"

    def until_answered(self, count: int) -> None:
        """Wait until this many more requests have their right answers."""
        before = sum(self.answered)
        eventually(lambda: sum(self.answered) >= before + count, lambda: self.failures)

    def until_one_waits(self) -> None:
        """Wait until the request of some client is not answered while others are."""
        before, total = list(self.answered), sum(self.answered)

        def one_waits() -> bool:
            waiting = any(now == then for now, then in zip(self.answered, before, strict=True))
            nonlocal total
            if not waiting:
                before[:], total = self.answered, sum(self.answered)
            return waiting and sum(self.answered) >= total + 8

        eventually(one_waits, lambda: (before, self.answered))

    def _run(self, client: int) -> None:
        address = httpx.URL(self.url)
        connection = HTTPConnection(address.host, address.port, timeout=PATIENCE_S)
        number = 0
        while not self._stop.is_set():
            number += 1
            failure = self._ask(connection, self.samples[number % len(self.samples)], f"{client}-{number}")
            if failure is None:
                self.answered[client] += 1
            else:
                self.failures[failure] += 1
            time.sleep(_PAUSE_S)
        connection.close()

    def _ask(self, connection: HTTPConnection, sample: Sample, request_id: str) -> str | None:
        """Send one request; returns what went wrong."""
        try:
            connection.request("POST", "/classify", sample.image, {**PNG, "X-Request-ID": request_id})
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            return type(error).__name__
        if response.status != 200:
            return str(response.status)
        return None if sample.is_answered_by(json.loads(body), request_id) else "wrong answer"
