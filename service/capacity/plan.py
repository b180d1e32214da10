"""Computes how many replicas a demand needs, including spare ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from service.capacity.replica import SimulatedLoad, SimulatedReplica
from service.errors import InvalidParameterError

MAX_SHARE_OF_CAPACITY = 0.8
"""Limit of a planned rate: if the real capacity were a tenth smaller, a fuller replica's queue would grow forever."""

_BISECTIONS = 8
_MAX_MORE_REPLICAS = 8


class InfeasibleLatencyError(InvalidParameterError):
    """No number of replicas keeps the target; the text names the target and a latency that is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The demand to plan for.

    Attributes:
        rate: images per second over all replicas.
        p99_ms: limit on the 99th percentile of the latency.
        spare: replicas that may fail while the limit holds.
    """

    rate: float
    p99_ms: float
    spare: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """The result.

    Attributes:
        limit: one replica at the largest rate within the target.
        needed: replicas that carry the demand.
        lost: one replica when only `needed` replicas are left.
        normal: one replica when all replicas are up.
    """

    demand: Demand
    limit: SimulatedLoad
    needed: int
    lost: SimulatedLoad
    normal: SimulatedLoad

    @property
    def replicas(self) -> int:
        """How many replicas to run."""
        return self.needed + self.demand.spare


def make_plan(
    replica: SimulatedReplica,
    demand: Demand,
    *,
    images: int,
    seed: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> CapacityPlan:
    """Find the largest rate of one replica by bisection, then as many replicas as the demand needs.

    Args:
        images: number of images of every simulated load.
        on_step: receives what begins; called at most `MAX_STEPS` times.

    Raises:
        InfeasibleLatencyError: an idle replica exceeds the target, or every useful rate does.
    """

    def under(rate: float) -> SimulatedLoad:
        on_step(f"one replica at {rate:,.1f} images/s")
        return replica.under(rate, images=images, seed=seed)

    alone_ms = replica.alone_s(0.99) * 1000
    if demand.p99_ms <= alone_ms:
        raise InfeasibleLatencyError(
            f"a p99 of {demand.p99_ms:g} ms cannot be kept: the walk alone, one image on an idle replica, takes "
            f"{alone_ms:.2f} ms for the slowest of a hundred"
        )
    limit = _largest(under, demand.p99_ms, replica.capacity * MAX_SHARE_OF_CAPACITY)
    if limit is None:
        raise InfeasibleLatencyError(
            f"a p99 of {demand.p99_ms:g} ms cannot be kept at any useful rate: the walk alone takes "
            f"{alone_ms:.2f} ms for the slowest of a hundred, and any queueing or slow batch exceeds the target"
        )
    fewest = max(1, math.ceil(demand.rate / limit.rate))
    # The percentile is an estimate and may rise a little when the rate falls, so the result itself is checked.
    for needed in range(fewest, fewest + _MAX_MORE_REPLICAS):
        lost = under(demand.rate / needed)
        if _keeps(lost, demand.p99_ms):
            break
    else:
        raise InfeasibleLatencyError(f"a p99 of {demand.p99_ms:g} ms holds at some rates only; try a higher target")
    normal = lost if demand.spare == 0 else under(demand.rate / (needed + demand.spare))
    return CapacityPlan(demand=demand, limit=limit, needed=needed, lost=lost, normal=normal)


MAX_STEPS = 1 + _BISECTIONS + _MAX_MORE_REPLICAS + 1
"""The most loads that `make_plan` simulates."""


def _largest(under: Callable[[float], SimulatedLoad], p99_ms: float, most: float) -> SimulatedLoad | None:
    """The largest rate up to `most` that keeps the target, to a 256th of it."""
    best = under(most)
    if _keeps(best, p99_ms):
        return best
    found, low, high = None, 0.0, most
    for _ in range(_BISECTIONS):
        middle = under((low + high) / 2)
        if _keeps(middle, p99_ms):
            found, low = middle, middle.rate
        else:
            high = middle.rate
    return found


def _keeps(load: SimulatedLoad, p99_ms: float) -> bool:
    return load.p99_ms <= p99_ms and load.refused == 0
