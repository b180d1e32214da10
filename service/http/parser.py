"""Reads requests from bytes: httptools' parser, for a server that speaks no protocol but HTTP/1."""

from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser


class RequestParser(HttpRequestParser):
    """Ignores offers of other protocols (RFC 9110, 7.8).

    httptools takes what follows a head with `Upgrade` for another protocol, its body as well. Such a head is read once
    more, without that header; the connection has to ignore the first reading, during which `should_upgrade()` is true.
    """

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._connection = connection
        # What follows a request that closes its connection is no error, and is left unread.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: Any) -> None:
        """Read what has arrived, and call the connection back."""
        parser = self
        while True:
            try:
                super(RequestParser, parser).feed_data(data)
                return
            except HttpParserUpgrade as offered:
                data = memoryview(data)[offered.args[0] :]
                head = parser._head_without_upgrade()
                # A new one: the old one reads no further where the connection is to be closed.
                parser = self._connection.parser = RequestParser(self._connection)
                super(RequestParser, parser).feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        request_line = b"%s %s HTTP/%s" % (self.get_method(), self._connection.url, self.get_http_version().encode())
        headers = (b"%s: %s" % header for header in self._connection.headers if header[0] != b"upgrade")
        return b"\r\n".join((request_line, *headers, b"", b""))
