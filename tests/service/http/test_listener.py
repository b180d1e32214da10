import socket
from contextlib import closing

import pytest

from service.http.listener import bind, listen, url_of
from service.settings import Settings, SettingsError


def settings_at(port: int = 0, host: str = "127.0.0.1") -> Settings:
    return Settings(http_host=host, http_port=port)


def test_bind_connections_are_refused_until_listen() -> None:
    with closing(bind(settings_at())) as listener:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname())
        listen(listener)
        socket.create_connection(listener.getsockname()).close()


def test_bind_port_in_use_is_refused_naming_it_and_the_settings() -> None:
    with closing(bind(settings_at())) as listener:
        listen(listener)
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: Address already in use; set DVT_HTTP_HOST"):
            bind(settings_at(port))


def test_listen_where_somebody_else_was_faster_is_refused_naming_the_address() -> None:
    with closing(bind(settings_at())) as first:
        port = first.getsockname()[1]
        with closing(bind(settings_at(port))) as second:
            listen(first)
            with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: Address already in use"):
                listen(second)


def test_bind_address_that_is_not_here_is_refused_naming_it() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:0"):
        bind(settings_at(host="192.0.2.1"))


def test_url_of_an_ipv6_address_is_in_brackets() -> None:
    with closing(bind(settings_at(host="::1"))) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
