"""The listening socket: bound before anything slow, listening once somebody can answer, shared by all front ends."""

import os
import socket

from service.settings import Settings, SettingsError

BACKLOG = 2048
"""The number of connections that may wait to be accepted."""

# With one, a new connection waited for 12 s and more at twice the capacity.
_ACCEPTS_PER_TURN = 16


def bind(settings: Settings) -> socket.socket:
    """Bind the address. Until `listen`, connections are refused.

    Raises:
        SettingsError: the address is in use, or is not one of this machine.
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
        SettingsError: another process that had bound the address too was first to listen.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _unusable(url_of(listener), error) from error


def accepting(listener: socket.socket) -> list[socket.socket]:
    """The listener under several descriptors, for a server to accept from.

    libuv accepts one connection per descriptor in a turn of the event loop; under load a turn takes tens of
    milliseconds.
    """
    # `listener.dup()` would make the shared socket blocking. Another process could then block in `accept`.
    return [listener, *(socket.socket(fileno=os.dup(listener.fileno())) for _ in range(_ACCEPTS_PER_TURN - 1))]


def url_of(listener: socket.socket) -> str:
    """The URL for clients on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unusable(address: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"cannot listen on {address}: {error.strerror}; set DVT_HTTP_HOST and DVT_HTTP_PORT to a free address of this "
        "machine"
    )
