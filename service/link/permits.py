"""Bounded admission: one permit per image, for its whole walk; taken or refused at once, never waited for."""

import threading
from collections import deque
from collections.abc import Callable, MutableSequence
from types import TracebackType
from typing import Self

from service.errors import InvalidParameterError, OverloadedError, TooLargeError

_DEFAULT_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 60.0
_RATE_WINDOW_S = 10.0
_REMEMBERED_RELEASES = 64


class Permits:
    """The permits one request holds. As a context manager it gives back whatever is still held."""

    def __init__(self, pool: "PermitPool", count: int) -> None:
        self._pool = pool
        self._held = count
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """How many are not given back yet."""
        return self._held

    def release(self, count: int = 1) -> None:
        """Give some back.

        Raises:
            ValueError: when none or more than held are given back.
        """
        with self._lock:
            if not 1 <= count <= self._held:
                raise ValueError(f"cannot give back {count} permits of {self._held} held")
            self._held -= count
        self._pool.put_back(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            count, self._held = self._held, 0
        if count:
            self._pool.put_back(count)


class PermitPool:
    """A fixed number of permits, safe to use from any thread, and from several processes that share `counts`.

    Each process writes its own count only, so that no lock outlives a process that was killed. It adds to its count
    first and looks at the sum then: two that race for the last permits may both be refused, never both admitted.

    Args:
        capacity: how many images may be in flight, over all processes.
        clock: seconds, monotonic; only used to estimate when a retry makes sense.
        counts: permits out, by process.
        index: this process's place in `counts`.
    """

    def __init__(
        self,
        capacity: int,
        clock: Callable[[], float],
        counts: MutableSequence[int],
        index: int,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._clock = clock
        self._counts = counts
        self._index = index
        self._releases: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_RELEASES)
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many permits are out, over all processes."""
        return sum(self._counts)

    def take(self, count: int) -> Permits:
        """Take `count` permits, all or none.

        Raises:
            InvalidParameterError: when fewer than one is asked for.
            TooLargeError: when there will never be that many.
            OverloadedError: when there are not that many now.
        """
        if count < 1:
            raise InvalidParameterError(f"a request needs at least 1 image, got {count}")
        if count > self._capacity:
            raise TooLargeError(f"{count} images in one request; the limit is {self._capacity}")
        with self._lock:
            self._counts[self._index] += count
            taken = self.taken
            if taken > self._capacity:
                self._counts[self._index] -= count
                raise OverloadedError(
                    f"no room for {count} more: {taken - count} of {self._capacity} images are in flight",
                    self._retry_after_s(taken - self._capacity),
                )
        return Permits(self, count)

    def require_any(self) -> None:
        """Refuse a request whose number of images is not known yet, while no permit is left.

        Raises:
            OverloadedError: when all permits are out.
        """
        taken = self.taken
        if taken >= self._capacity:
            with self._lock:
                retry_after_s = self._retry_after_s(1)
            raise OverloadedError(
                f"no room for 1 more: {taken} of {self._capacity} images are in flight", retry_after_s
            )

    def hold(self, count: int) -> None:
        """Keep places taken whose permits are about to be released, though their images still take up room.

        Given back by `put_back`.
        """
        with self._lock:
            self._counts[self._index] += count

    def put_back(self, count: int) -> None:
        """Return permits to the pool; `Permits` does this for its holder."""
        with self._lock:
            self._counts[self._index] -= count
            self._releases.append((self._clock(), count))

    def _retry_after_s(self, missing: int) -> float:
        """How long `missing` more permits take to come back, at the rate at which the last ones did.

        Of several processes each sees its own releases only, and takes the others to be as fast.
        """
        now = self._clock()
        recent = [(at, count) for at, count in self._releases if now - at <= _RATE_WINDOW_S]
        if not recent:
            return _DEFAULT_RETRY_AFTER_S
        returned = sum(count for _, count in recent)
        return min(missing * (now - recent[0][0]) / (returned * len(self._counts)), _MAX_RETRY_AFTER_S)
