import asyncio
import os
import socket
from contextlib import closing

import pytest
import uvloop

from service.http.listener import accepting, bind, listen, url_of
from service.settings import Settings, SettingsError

NUM_CONNECTIONS = 64


def bound(port: int = 0, host: str = "127.0.0.1") -> closing[socket.socket]:
    return closing(bind(Settings(http_host=host, http_port=port)))


def test_bind_connections_are_refused_until_listen_and_another_is_told_of_the_settings() -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname())
        listen(listener)
        socket.create_connection(listener.getsockname()).close()
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: Address already in use; set DVT_HTTP_HOST"):
            bound(port)


def test_listen_where_somebody_else_was_faster_is_refused_naming_the_address() -> None:
    with bound() as first:
        port = first.getsockname()[1]
        with bound(port) as second:
            listen(first)
            with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: Address already in use"):
                listen(second)


def test_bind_address_that_is_not_here_is_refused_naming_it() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:0"):
        bound(host="192.0.2.1")


def test_url_of_an_ipv6_address_is_in_brackets() -> None:
    with bound(host="::1") as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


async def turns_until_all_are_accepted(sockets: list[socket.socket]) -> int:
    accepted: list[asyncio.BaseTransport] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Accepted, sock=sock) for sock in sockets]
    turns = 0
    while len(accepted) < NUM_CONNECTIONS:
        await asyncio.sleep(0)
        turns += 1
    for each in accepted + servers:
        each.close()
    return turns


def test_accepting_takes_many_connections_in_few_turns_of_the_loop_and_never_blocks() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=NUM_CONNECTIONS)
    listener.setblocking(False)
    connected = [socket.create_connection(listener.getsockname()) for _ in range(NUM_CONNECTIONS)]
    sockets = accepting(listener)
    assert not os.get_blocking(listener.fileno())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            turns = runner.run(turns_until_all_are_accepted(sockets))
    finally:
        for sock in connected + sockets:
            sock.close()

    assert turns <= NUM_CONNECTIONS / 4
