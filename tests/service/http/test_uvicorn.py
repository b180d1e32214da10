"""The internals of uvicorn that connections and servers are built on: an update that changes one fails here."""

import asyncio
import inspect

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


async def no_app(scope, receive, send): ...


def missing(thing, names):
    return [name for name in names if not hasattr(thing, name)]


async def test_connection_has_what_ours_relies_on():
    config = uvicorn.Config(no_app, lifespan="off")
    config.load()
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.on_message_begin()

    names = (
        *("parser", "transport", "flow", "cycle", "pipeline", "url", "headers", "scope", "client", "loop"),
        *("connections", "server_state", "timeout_keep_alive", "timeout_keep_alive_task"),
        *("connection_made", "connection_lost", "data_received", "shutdown", "timeout_keep_alive_handler"),
        *("on_message_begin", "on_headers_complete", "on_message_complete", "send_400_response"),
        "_unset_keepalive_if_required",
    )
    assert missing(protocol, names) == []
    assert missing(FlowControl, ["resume_reading"]) == []
    assert "self.read_paused = " in inspect.getsource(FlowControl)
    made = inspect.getsource(RequestResponseCycle.__init__)
    cycle = ("keep_alive", "response_started", "response_complete", "disconnected", "message_event")
    assert [name for name in cycle if f"self.{name} = " not in made] == []


async def test_server_has_what_ours_relies_on():
    names = ("on_tick", "shutdown", "capture_signals", "should_exit", "force_exit", "server_state")
    assert missing(uvicorn.Server(uvicorn.Config(no_app)), names) == []
    assert asyncio.iscoroutinefunction(uvicorn.Server.on_tick)

    state = ServerState()
    assert state.tasks == state.connections == set()
    assert state.default_headers == []
