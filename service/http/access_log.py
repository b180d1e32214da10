"""The access log: one line for each answered request, if `DVT_ACCESS_LOG` is set."""

import logging

Client = tuple[str, int] | None
"""Address and port of a client; None if the server does not know them."""

_logger = logging.getLogger(__name__)


class AccessLog:
    """Writes the lines, whatever the level of all other logging is; nothing unless `on`."""

    def __init__(self, on: bool) -> None:
        self._on = on
        if on:
            _logger.setLevel(logging.INFO)

    def answered(
        self, client: Client, method: str, target: bytes, status: int, duration_s: float, request_id: str
    ) -> None:
        """Log an answered request; `target` is as it was sent, so it has no control characters."""
        if self._on:
            line = '%s "%s %s" %d %.1f ms %s'
            _logger.info(line, _host(client), method, target.decode("latin-1"), status, duration_s * 1000, request_id)

    def refused(self, client: Client, status: int) -> None:
        """Log an answer to bytes that were not a request."""
        if self._on:
            _logger.info('%s "-" %d', _host(client), status)


def _host(client: Client) -> str:
    return client[0] if client else "-"
