"""The counts of a front end, until it reports them to the engine process."""

from service.link.messages import Counted


class Counts:
    """Counts events of this front end until they are taken. Belongs to the event loop."""

    def __init__(self) -> None:
        self._counted = Counted()

    def request_done(self, status: int, duration_s: float | None) -> None:
        """A request was answered with this status; the duration is None if it was refused."""
        self._counted.requests.append((status, duration_s))

    def images_presented(self, count: int) -> None:
        """A request contained this many images."""
        self._counted.presented += count

    def image_rejected(self, reason: str, count: int = 1) -> None:
        """Images were refused before they reached the engine."""
        self._counted.rejected[reason] = self._counted.rejected.get(reason, 0) + count

    def image_cancelled(self, where: str, count: int = 1) -> None:
        """Images were dropped before they reached the engine."""
        self._counted.cancelled[where] = self._counted.cancelled.get(where, 0) + count

    def take(self) -> Counted | None:
        """The counts since the last call; None without any."""
        if self._counted == Counted():
            return None
        counted, self._counted = self._counted, Counted()
        return counted
