"""Counts and latencies of one load."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

_REFUSED_STATUSES = (429, 503)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; not a number when there are none."""
    if not values:
        return math.nan
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of one load, over its measured time only; faults are counted over all of it.

    A rate counts the answers within the measured time. In a closed loop, latencies are those of the same answers; in an
    open loop, those of the requests that were due within it, even if their answers came later.

    Attributes:
        seconds: the measured time.
        answered: answers with status 200.
        images: in them.
        refused: answers of 429 and 503.
        answered_s: latencies of answers with status 200.
        refused_s: likewise of 429 and 503.
        added_s: time of each answer with status 200 beyond the decoding and computing that its server reports;
            one connection only.
        statuses: answers by status.
        lost: requests without an answer.
        unsent: requests that were due, for which no connection was free until the end; open loop only.
        crossed: answers with another request's id.
        changed: images whose answer differs from the answer alone.
        no_retry_after: answers of 429 without `Retry-After`.
        sent_late_s: how long after its intended time each request was sent; open loop only.
        livez_s: latencies of `/livez` meanwhile.
        client_cpu_s: processor time that sending and reading took.
    """

    seconds: float = 0.0
    answered: int = 0
    images: int = 0
    refused: int = 0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    added_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    unsent: int = 0
    crossed: int = 0
    changed: int = 0
    no_retry_after: int = 0
    sent_late_s: list[float] = field(default_factory=list)
    livez_s: list[float] = field(default_factory=list)
    client_cpu_s: float = 0.0

    def add(self, other: Self) -> None:
        """Join what another process counted at the same time."""
        self.seconds = max(self.seconds, other.seconds)
        self.answered += other.answered
        self.images += other.images
        self.refused += other.refused
        self.answered_s += other.answered_s
        self.refused_s += other.refused_s
        self.added_s += other.added_s
        self.statuses += other.statuses
        self.lost += other.lost
        self.unsent += other.unsent
        self.crossed += other.crossed
        self.changed += other.changed
        self.no_retry_after += other.no_retry_after
        self.sent_late_s += other.sent_late_s
        self.livez_s += other.livez_s
        self.client_cpu_s += other.client_cpu_s

    def finish(self, status: int, images: int) -> None:
        """Count an answer within the measured time."""
        self.answered += status == 200
        self.images += images if status == 200 else 0
        self.refused += status in _REFUSED_STATUSES

    def took(self, status: int, latency_s: float) -> None:
        """Record the latency of a measured request."""
        self.statuses[status] += 1
        if status == 200:
            self.answered_s.append(latency_s)
        elif status in _REFUSED_STATUSES:
            self.refused_s.append(latency_s)

    def report(self) -> dict[str, Any]:
        """The figures as JSON data; null if not measured."""
        return {
            "seconds": self.seconds,
            "requests_per_s": self.answered / self.seconds,
            "images_per_s": self.images / self.seconds,
            **{f"p{share}_ms": _ms(self.answered_s, share) for share in (50, 90, 99)},
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "refused_per_s": self.refused / self.seconds,
            "added_p50_ms": _ms(self.added_s, 50),
            "refused_p99_ms": _ms(self.refused_s, 99),
            "livez_p99_ms": _ms(self.livez_s, 99),
            "livez_polls": len(self.livez_s),
            "sent_late_p99_ms": _ms(self.sent_late_s, 99),
            "client_cores": self.client_cpu_s / self.seconds,
            "lost": self.lost,
            "unsent": self.unsent,
            "crossed": self.crossed,
            "changed": self.changed,
            "no_retry_after": self.no_retry_after,
        }


def _ms(seconds: list[float], share: int) -> float | None:
    return percentile(seconds, share / 100) * 1e3 if seconds else None
