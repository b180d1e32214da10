"""What a front end counts, until it tells the engine process."""

from collections.abc import Callable, Coroutine
from typing import Any

from service.link.messages import Counted


class Counts:
    """Counts what happens in this front end until it is reported. Used from the event loop only.

    Attributes:
        scrape: asks for the metrics of the whole replica.
    """

    def __init__(self, scrape: Callable[..., Coroutine[Any, Any, bytes]]) -> None:
        self.scrape = scrape
        self._clear()

    def _clear(self) -> None:
        self._requests: list[tuple[int, float | None]] = []
        self._presented = 0
        self._rejected: dict[str, int] = {}
        self._cancelled: dict[str, int] = {}

    def request_done(self, status: int, duration_s: float | None) -> None:
        """A request was answered with this status."""
        self._requests.append((status, duration_s))

    def images_presented(self, count: int) -> None:
        """A request brought this many images."""
        self._presented += count

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused before they reached the engine."""
        self._rejected[reason] = self._rejected.get(reason, 0) + count

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped before they reached the engine."""
        self._cancelled[where] = self._cancelled.get(where, 0) + count

    def take(self) -> Counted | None:
        """What was counted since the last time, if anything."""
        if not (self._requests or self._presented or self._rejected or self._cancelled):
            return None
        counted = Counted(self._requests, self._presented, self._rejected, self._cancelled)
        self._clear()
        return counted
