"""How many replicas a demand needs, with some to spare, and what that costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from service.capacity.replica import SimulatedLoad, SimulatedReplica
from service.errors import InvalidParameterError

MAX_SHARE_OF_CAPACITY = 0.8
"""No replica is planned beyond it: a capacity that was predicted a tenth too high would leave a queue without end."""

_BISECTIONS = 8
_MAX_MORE_REPLICAS = 8


class InfeasibleLatencyError(InvalidParameterError):
    """No number of replicas keeps the target; the text names it and what can be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is asked for.

    Attributes:
        rate: images per second over all replicas.
        p99_ms: the 99th percentile that must hold.
        spare: replicas that may be lost while it holds.
    """

    rate: float
    p99_ms: float
    spare: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """The answer.

    Attributes:
        limit: one replica at the largest rate that keeps the target.
        needed: replicas that carry the demand.
        lost: one replica where only those are left.
        normal: one replica where all are up.
    """

    demand: Demand
    limit: SimulatedLoad
    needed: int
    lost: SimulatedLoad
    normal: SimulatedLoad

    @property
    def replicas(self) -> int:
        """How many to run."""
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
        images: of every simulated load.
        on_step: told what begins, at most `MAX_STEPS` times.

    Raises:
        InfeasibleTargetError: even images that come alone take longer, or any that are worth a replica.
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
            f"a p99 of {demand.p99_ms:g} ms cannot be kept at any rate worth a replica: the walk alone takes "
            f"{alone_ms:.2f} ms for the slowest of a hundred, and a little company or one slow batch is too much"
        )
    fewest = max(1, math.ceil(demand.rate / limit.rate))
    # The percentile is an estimate and may rise a little where the rate falls; what is promised is checked itself.
    for needed in range(fewest, fewest + _MAX_MORE_REPLICAS):
        lost = under(demand.rate / needed)
        if _keeps(lost, demand.p99_ms):
            break
    else:
        raise InfeasibleLatencyError(f"a p99 of {demand.p99_ms:g} ms comes and goes with the rate; try a higher one")
    normal = lost if demand.spare == 0 else under(demand.rate / (needed + demand.spare))
    return CapacityPlan(demand=demand, limit=limit, needed=needed, lost=lost, normal=normal)


MAX_STEPS = 1 + _BISECTIONS + _MAX_MORE_REPLICAS + 1
"""Loads that `make_plan` simulates at most."""


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
