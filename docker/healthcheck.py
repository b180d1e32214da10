"""Asks the service beside it whether it takes requests; the container's HEALTHCHECK, with nothing but the library."""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 2.0


def main() -> int:
    """0 when the service is ready, 1 when it is not or does not answer."""
    port = os.environ.get("DVT_HTTP_PORT", "")
    # Kubernetes sets it to tcp://… for a service named dvt-http, which the service ignores too.
    connection = HTTPConnection("127.0.0.1", int(port) if port.isdecimal() else 8000, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        print(f"no answer from /readyz: {error!r}")
        return 1
    print(response.status, response.read().decode(errors="replace"))
    return int(response.status != 200)


if __name__ == "__main__":
    sys.exit(main())
