"""Asks the service beside it whether it takes requests; the container's HEALTHCHECK, with nothing but the library."""

import os
import sys
import tomllib
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 2.0
# Where a server that listens on all addresses answers too.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    """0 when the service is ready, 1 when it is not or does not answer."""
    try:
        host, port = address()
        connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
    except (OSError, OverflowError, ValueError, HTTPException) as error:
        print(f"no answer from /readyz: {error!r}")
        return 1
    print(response.status, response.read().decode(errors="replace"))
    return int(response.status != 200)


def address() -> tuple[str, int]:
    """Where the service's settings say that it listens: environment, then file, then default."""
    from_file = {}
    if path := os.environ.get("DVT_CONFIG_FILE"):
        with open(path, "rb") as file:
            from_file = tomllib.load(file)
    host = os.environ.get("DVT_HTTP_HOST") or from_file.get("http_host", "")
    port = os.environ.get("DVT_HTTP_PORT", "")
    # Kubernetes sets it to tcp://… for a service named dvt-http, which the service ignores too.
    port = port if port.isdecimal() else from_file.get("http_port", 8000)
    host = host.removeprefix("[").removesuffix("]")
    return _LOOPBACK.get(host, host), int(port)


if __name__ == "__main__":
    sys.exit(main())
