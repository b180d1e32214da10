"""One line for every request that was answered, where `DVT_ACCESS_LOG` asks for it."""

import logging

Client = tuple[str, int] | None
"""Address and port, where the server knows them."""

_logger = logging.getLogger(__name__)


class AccessLog:
    """Writes the lines, whatever the level of all other logging is.

    Args:
        on: whether anything is written.
    """

    def __init__(self, on: bool) -> None:
        self._on = on
        if on:
            _logger.setLevel(logging.INFO)

    def answered(
        self, client: Client, method: str, target: bytes, status: int, duration_s: float, request_id: str
    ) -> None:
        """A request was answered.

        Args:
            target: as it was sent, so without control characters.
        """
        if self._on:
            line = '%s "%s %s" %d %.1f ms %s'
            host = client[0] if client else "-"
            _logger.info(line, host, method, target.decode("latin-1"), status, duration_s * 1000, request_id)

    def refused(self, client: Client, status: int) -> None:
        """Something was answered that is no request."""
        if self._on:
            _logger.info('%s "-" %d', client[0] if client else "-", status)
