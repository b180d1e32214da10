"""Servers as processes: one that fails to start is told with its log."""

import pytest

from service.capacity.child import ServerFailedError, served


def test_served_process_that_ends_at_once_is_told_with_its_log():
    with (
        pytest.raises(ServerFailedError, match=r"exit code 3.*such a pity"),
        served(("-c", "import sys; print('such a pity'); sys.exit(3)")),
    ):
        pytest.fail("it never was ready")


def test_served_process_that_ends_badly_is_an_error():
    program = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
HTTPServer(("127.0.0.1", int(os.environ["DVT_HTTP_PORT"])), Handler).serve_forever()
"""
    with pytest.raises(ServerFailedError, match="code 7"), served(("-c", program)) as child:
        assert child.host == "127.0.0.1"
