"""Authorization: who may classify, and who may change the configuration."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from service.errors import ForbiddenError, UnauthorizedError
from service.http.context import Context
from service.keys import KeyRing

FROM_LOOPBACK = "loopback"
"""The author of a configuration change that needed no key."""

_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def require_api_key(request: Request, context: Context) -> None:
    """Require an API key, if any are set.

    Raises:
        ForbiddenError: the key is wrong.
        UnauthorizedError: the request has no key.
    """
    if context.api_keys is not None:
        _holder(request, context.api_keys, "classifying needs an API key")


def require_admin(request: Request, context: Context) -> str:
    """Require the right to change the configuration; returns the holder of the key.

    Raises:
        ForbiddenError: the key is wrong; or no keys are set, and the request does not certainly come from loopback.
        UnauthorizedError: the request has no key.
    """
    if context.admin_keys is not None:
        return _holder(request, context.admin_keys, "changing the configuration needs the admin key")
    if not _from_loopback(request):
        raise ForbiddenError("without an admin key, the configuration can be changed from loopback only")
    settings = context.settings
    # If others can connect, a proxy on this machine that adds no header makes them look like loopback.
    if not (settings.trust_loopback or _is_loopback(settings.http_host)):
        raise ForbiddenError(
            "without an admin key, the configuration can be changed only where the service listens on loopback alone; "
            "set DVT_ADMIN_KEY, or DVT_TRUST_LOOPBACK=true"
        )
    return FROM_LOOPBACK


def _holder(request: Request, keys: KeyRing, need: str) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError(f"{need} as a bearer token")
    # Headers are decoded as latin-1; this restores the bytes that were sent.
    holder = keys.holder(token.strip().encode("latin-1"))
    if holder is None:
        raise ForbiddenError(f"{need}, and this one is wrong")
    return holder


def _from_loopback(request: Request) -> bool:
    # A proxy on this machine connects from loopback, but forwards the requests of others.
    if request.client is None or any(name in request.headers for name in _FORWARDING_HEADERS):
        return False
    # A browser on this machine connects from loopback, but may send requests for a page of another site.
    origin = request.headers.get("origin")
    return _is_loopback(request.client.host) and (origin is None or _is_loopback(_host_of(origin)))


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
