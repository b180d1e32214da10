"""Limits the images in flight: each takes one permit for its whole walk, at once or not at all."""

from collections import deque
from collections.abc import Callable, MutableSequence

from service.errors import InvalidParameterError, OverloadedError, TooLargeError

_DEFAULT_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 60.0
_RATE_WINDOW_S = 10.0
_REMEMBERED_RELEASES = 64


class Permits:
    """The permits of one request, which returns them."""

    def __init__(self, pool: "PermitPool", count: int) -> None:
        self._pool = pool
        self._held = count

    def release(self, count: int = 1) -> None:
        """Return permits.

        Raises:
            ValueError: when `count` is below 1 or above the number held.
        """
        if not 1 <= count <= self._held:
            raise ValueError(f"cannot give back {count} permits of {self._held} held")
        self._held -= count
        self._pool.put_back(count)


class PermitPool:
    """A fixed number of permits for several processes that share `counts`; in each for one thread.

    Each process writes only its own count, so that a killed process leaves no lock. It first adds to its count, then
    checks the sum: two processes that race for the last permits may both be refused, but never both be admitted.

    Args:
        capacity: the most images in flight, over all processes.
        clock: seconds, monotonic; used to estimate `Retry-After`.
        counts: permits taken by each process.
        index: this process's place in `counts`.
    """

    def __init__(self, capacity: int, clock: Callable[[], float], counts: MutableSequence[int], index: int) -> None:
        self._capacity = capacity
        self._clock = clock
        self._counts = counts
        self._index = index
        self._releases: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_RELEASES)

    @property
    def taken(self) -> int:
        """Number of permits taken, over all processes."""
        return sum(self._counts)

    def take(self, count: int) -> Permits:
        """Take `count` permits, all or none.

        Raises:
            InvalidParameterError: when `count` is below 1.
            TooLargeError: when `count` exceeds the capacity.
            OverloadedError: when too few permits are free now.
        """
        if count < 1:
            raise InvalidParameterError(f"a request needs at least 1 image, got {count}")
        if count > self._capacity:
            raise TooLargeError(f"{count} images in one request; the limit is {self._capacity}")
        self.hold(count)
        others = self.taken - count
        if others + count > self._capacity:
            self._counts[self._index] -= count
            raise self._overloaded(count, others)
        return Permits(self, count)

    def require_any(self) -> None:
        """Refuse a request when no permit is free, before its number of images is known.

        Raises:
            OverloadedError: when all permits are taken.
        """
        if (taken := self.taken) >= self._capacity:
            raise self._overloaded(1, taken)

    def hold(self, count: int) -> None:
        """Take permits whether they are free or not, for images that still use memory after their own were returned.

        They go back by `put_back`.
        """
        self._counts[self._index] += count

    def put_back(self, count: int) -> None:
        """Return permits to the pool."""
        self._counts[self._index] -= count
        self._releases.append((self._clock(), count))

    def _overloaded(self, count: int, taken: int) -> OverloadedError:
        retry_after_s = self._retry_after_s(taken + count - self._capacity)
        text = f"no room for {count} more: {taken} of {self._capacity} images are in flight"
        return OverloadedError(text, retry_after_s)

    def _retry_after_s(self, missing: int) -> float:
        """Estimated time until `missing` permits are returned, at the rate of the last returns.

        A process knows only its own returns and assumes the same rate for the others.
        """
        now = self._clock()
        recent = [(at, count) for at, count in self._releases if now - at <= _RATE_WINDOW_S]
        if not recent:
            return _DEFAULT_RETRY_AFTER_S
        returned = sum(count for _, count in recent)
        return min(missing * (now - recent[0][0]) / (returned * len(self._counts)), _MAX_RETRY_AFTER_S)
