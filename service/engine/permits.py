"""Bounded admission: one permit per image, for its whole walk; taken or refused at once, never waited for."""

import threading
from collections import deque
from collections.abc import Callable
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
    """A fixed number of permits, safe to use from any thread.

    Args:
        capacity: how many images may be in flight.
        clock: seconds, monotonic; only used to estimate when a retry makes sense.
    """

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._clock = clock
        self._taken = 0
        self._releases: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_RELEASES)
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many permits are out."""
        return self._taken

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
            free = self._capacity - self._taken
            if count > free:
                raise OverloadedError(
                    f"no room for {count} more: {self._taken} of {self._capacity} images are in flight",
                    self._retry_after_s(count - free),
                )
            self._taken += count
        return Permits(self, count)

    def put_back(self, count: int) -> None:
        """Return permits to the pool; `Permits` does this for its holder."""
        with self._lock:
            self._taken -= count
            self._releases.append((self._clock(), count))

    def _retry_after_s(self, missing: int) -> float:
        """How long `missing` more permits take to come back, at the rate at which the last ones did."""
        now = self._clock()
        recent = [(at, count) for at, count in self._releases if now - at <= _RATE_WINDOW_S]
        if not recent:
            return _DEFAULT_RETRY_AFTER_S
        returned = sum(count for _, count in recent)
        return min(missing * (now - recent[0][0]) / returned, _MAX_RETRY_AFTER_S)
