from service.http.server import Server
from service.link.messages import Drain, ShutDown


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
    assert (b"connection", b"close") in server.server_state.default_headers
    server.note(ShutDown())

    assert await server.on_tick(1)
    assert not server.failed
