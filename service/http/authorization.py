"""Who may classify, and who may change the configuration."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from service.errors import ForbiddenError, UnauthorizedError
from service.http.context import Context
from service.keys import KeyRing

FROM_LOOPBACK = "loopback"
"""Who changes the configuration where there is no key."""

_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def require_api_key(request: Request, context: Context) -> None:
    """Let nobody classify without a key, where there are keys.

    Raises:
        ForbiddenError: the key is wrong.
        UnauthorizedError: there is none in the request.
    """
    if context.api_keys is not None:
        _holder(request, context.api_keys, "classifying needs an API key")


def require_admin(request: Request, context: Context) -> str:
    """Let nobody else change the configuration; returns whose key it was.

    Raises:
        ForbiddenError: the key is wrong; or there are no keys, and the request comes from elsewhere or could.
        UnauthorizedError: there is none in the request.
    """
    if context.admin_keys is not None:
        return _holder(request, context.admin_keys, "changing the configuration needs the admin key")
    if not _from_loopback(request):
        raise ForbiddenError("without an admin key, the configuration can be changed from loopback only")
    settings = context.settings
    # Where others can connect, a proxy beside the service that adds no header makes them look like loopback.
    if not (settings.trust_loopback or _is_loopback(_address_of(settings.http_host))):
        raise ForbiddenError(
            "without an admin key, the configuration can be changed only where the service listens on loopback alone; "
            "set DVT_ADMIN_KEY, or DVT_TRUST_LOOPBACK=true"
        )
    return FROM_LOOPBACK


def _holder(request: Request, keys: KeyRing, need: str) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError(f"{need} as a bearer token")
    # A header arrives decoded as latin-1; this gives back the bytes that were sent.
    holder = keys.holder(token.strip().encode("latin-1"))
    if holder is None:
        raise ForbiddenError(f"{need}, and this one is wrong")
    return holder


def _from_loopback(request: Request) -> bool:
    # What a proxy on this machine forwards comes from loopback too, but not from someone who sits here.
    if request.client is None or any(name in request.headers for name in _FORWARDING_HEADERS):
        return False
    # Neither does what a browser here sends for a page from elsewhere, whose name may have been made to lead here.
    origin = request.headers.get("origin")
    if origin is not None and not _is_loopback(_host_of(origin)):
        return False
    return _is_loopback(request.client.host)


def _host_of(origin: str) -> str:
    try:
        return _address_of(urlsplit(origin).hostname or "")
    except ValueError:
        return ""


def _address_of(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
