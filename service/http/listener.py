"""The socket that clients connect to: taken before anything slow, listened on once somebody can answer."""

import socket

from service.settings import Settings, SettingsError

_BACKLOG = 2048


def bind(settings: Settings) -> socket.socket:
    """Take the address; until `listen`, connections are refused.

    Raises:
        SettingsError: it is in use, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.http_host, settings.http_port))
    except OSError as error:
        listener.close()
        raise _unusable(f"{settings.http_host}:{settings.http_port}", error) from error
    listener.setblocking(False)  # for all processes that share it
    return listener


def listen(listener: socket.socket) -> None:
    """Let connections wait to be accepted.

    Raises:
        SettingsError: somebody else who had taken the address as well was faster.
    """
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _unusable(url_of(listener), error) from error


def url_of(listener: socket.socket) -> str:
    """Where clients on this machine find it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unusable(address: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"cannot listen on {address}: {error.strerror}; set DVT_HTTP_HOST and DVT_HTTP_PORT to a free address of this "
        "machine"
    )
