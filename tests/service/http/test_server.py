"""How connections are taken in."""

import asyncio
import os
import socket

import uvloop

from service.http.server import Server, accepting
from service.link.messages import Drain, ShutDown

_CONNECTIONS = 64


async def turns_until_all_are_accepted(sockets: list[socket.socket], connected: list[socket.socket]) -> int:
    accepted: list[asyncio.BaseTransport] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Accepted, sock=sock) for sock in sockets]
    turns = 0
    while len(accepted) < len(connected):
        await asyncio.sleep(0)
        turns += 1
    for transport in accepted:
        transport.close()
    for server in servers:
        server.close()
    return turns


def test_accepting_takes_many_connections_in_few_turns_of_the_loop():
    listener = socket.create_server(("127.0.0.1", 0), backlog=_CONNECTIONS)
    connected = [socket.create_connection(listener.getsockname()) for _ in range(_CONNECTIONS)]
    sockets = accepting(listener)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            turns = runner.run(turns_until_all_are_accepted(sockets, connected))
    finally:
        for sock in connected + sockets:
            sock.close()

    assert turns <= _CONNECTIONS / 4


def test_accepting_leaves_a_shared_listener_as_nobody_may_wait_in_it():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_blocking(listener.fileno(), False)
        for sock in accepting(listener)[1:]:
            assert not os.get_blocking(listener.fileno())
            sock.close()


async def test_server_never_believes_a_header_about_who_is_asking(serve):
    async with serve(drain_timeout_s=2.5) as serving:
        config = Server(serving.context).config

    assert config.proxy_headers is False
    assert config.timeout_graceful_shutdown == 3


async def test_server_told_to_shut_down_drains_and_ends(serving):
    server = Server(serving.context)
    server.note(Drain())
    assert serving.context.draining
    assert not await server.on_tick(1)
    server.note(ShutDown())

    assert await server.on_tick(1)
    assert not server.failed
