"""Prepared requests, and the check of their answers."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.http.connection import HttpReply

_BOUNDARY = b"dvt-bench-boundary"
_TOLERANCE = 1e-2
_DURATION = re.compile(r"(\w+);dur=(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Payload:
    """One request without its id: the bytes before and after the id, and the numbers of its images."""

    before_id: bytes
    after_id: bytes
    images: tuple[int, ...]

    def request(self, request_id: str) -> bytes:
        """The request's bytes."""
        return self.before_id + request_id.encode() + self.after_id


@dataclass(frozen=True, slots=True)
class AnsweredLabel:
    """A server's answer to one image."""

    label: str
    confidence: float

    def agrees(self, other: "AnsweredLabel") -> bool:
        """Whether the classes are equal, and the confidences within rounding."""
        return self.label == other.label and abs(self.confidence - other.confidence) <= _TOLERANCE


def payloads(jpegs: Sequence[bytes], images_per_request: int, path: str = "/classify") -> list[Payload]:
    """As many requests as there are images; each begins with another one."""
    numbers = [
        tuple((first + offset) % len(jpegs) for offset in range(images_per_request)) for first in range(len(jpegs))
    ]
    return [_payload([jpegs[number] for number in chosen], chosen, path) for chosen in numbers]


def answers(reply: HttpReply) -> tuple[str, list[AnsweredLabel]]:
    """The request id of an answer, and its answers to the images, in order.

    Raises:
        ValueError: when the answer is not successful, or contains a problem instead of an image.
    """
    document = json.loads(reply.body)
    try:
        results = document.get("results", [document])
        return document["id"], [AnsweredLabel(result["label"], result["confidence"]) for result in results]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a classification: {reply.body[:200]!r}") from error


def own_s(reply: HttpReply) -> float | None:
    """Seconds that the server reports for decoding and computing one image; None if it reports none.

    Source: its `Server-Timing` header, https://www.w3.org/TR/server-timing/; milliseconds.
    """
    fields = dict(_DURATION.findall(reply.headers.get(b"server-timing", b"").decode("latin-1")))
    if not {"decode", "compute"} <= fields.keys():
        return None
    return (float(fields["decode"]) + float(fields["compute"])) / 1e3


def _payload(jpegs: Sequence[bytes], numbers: tuple[int, ...], path: str) -> Payload:
    if len(jpegs) == 1:
        content_type, body = b"image/jpeg", jpegs[0]
    else:
        content_type, body = b"multipart/form-data; boundary=" + _BOUNDARY, _multipart(jpegs)
    head = b"POST %b HTTP/1.1\r\nHost: dvt\r\nContent-Type: %b\r\nContent-Length: %d\r\nX-Request-ID: "
    return Payload(head % (path.encode(), content_type, len(body)), b"\r\n\r\n" + body, numbers)


def _multipart(jpegs: Sequence[bytes]) -> bytes:
    head = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return b"".join(head % _BOUNDARY + jpeg + b"\r\n" for jpeg in jpegs) + b"--%b--\r\n" % _BOUNDARY
