"""The checks after a soak."""

from dataclasses import dataclass

from benchmarks.http.books import Metrics, balance, memory, sum_of
from benchmarks.soak.clients import CLIENTS, SoakRecord

MIN_JUDGED_S = 60.0
"""Shorter second halves are not checked for memory growth: allocators still grow then."""


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    found: str
    ok: bool


def judge(seen: SoakRecord, metrics: Metrics, max_growth_mb: float) -> list[Check]:
    """All checks."""
    grown = memory(seen.samples)
    codes = {labels["code"]: value for name, labels, value in metrics if name == "dvt_requests_total"}
    bad_codes = {code: value for code, value in codes.items() if code >= "500" and code not in ("503", "504")}
    idle_kinds = [kind for kind in CLIENTS if not seen.sent[kind]]
    queued, failed = sum_of(metrics, "dvt_queue_depth"), sum_of(metrics, "dvt_failed_images_total")
    judged = grown["seconds"] >= MIN_JUDGED_S
    missing, full = balance(metrics), seen.full_status in (None, 200)
    return [
        Check("answers lost", str(seen.lost), seen.lost == 0),
        Check("answers with another's id", str(seen.crossed), seen.crossed == 0),
        Check("answers nobody should get", "; ".join(seen.wrong[:3]) or "0", not seen.wrong),
        Check("5xx other than 503 and 504", str(bad_codes or 0), not bad_codes),
        Check("images not accounted for", f"{missing:.0f} of {sum_of(metrics, 'dvt_images_total'):.0f}", missing == 0),
        Check("images that failed", f"{failed:.0f}", failed == 0),
        Check("images left in queues", f"{queued:.0f}", queued == 0),
        Check("request for every permit", str(seen.full_status or "larger than a request may be"), full),
        Check("kinds of clients that never came", ", ".join(idle_kinds) or "0", not idle_kinds),
        Check(
            "memory, second half",
            f"{grown['from_mb']:.0f} -> {grown['to_mb']:.0f} MB, {grown['slope_mb_per_min']:+.2f} MB/min"
            + ("" if judged else "; too short to judge"),
            not judged or grown["growth_mb"] <= max_growth_mb,
        ),
    ]
