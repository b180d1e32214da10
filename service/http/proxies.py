"""What a proxy in between says of a request."""

from fastapi import Request

TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"

_MAX_TIMEOUT_DIGITS = 12


def proxy_timeout_s(request: Request) -> float | None:
    """The time the proxy gives this request, in seconds from now."""
    text = request.headers.get(TIMEOUT_HEADER)
    # Set by proxies, not by who asks: what makes no sense is no reason to refuse the request.
    if text is None or not text.isdecimal() or len(text) > _MAX_TIMEOUT_DIGITS or int(text) == 0:
        return None
    return int(text) / 1000
