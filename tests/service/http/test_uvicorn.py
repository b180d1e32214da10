"""The internals of uvicorn that connections and servers are built on: an update that changes one fails here."""

import asyncio
import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


async def no_app(scope, receive, send): ...


@pytest.fixture
async def protocol() -> HttpToolsProtocol:
    config = uvicorn.Config(no_app, lifespan="off")
    config.load()
    made = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    made.on_message_begin()
    return made


@pytest.mark.parametrize(
    "name",
    [
        *("parser", "transport", "flow", "cycle", "pipeline", "url", "headers", "scope", "client", "loop"),
        *("connections", "server_state", "timeout_keep_alive", "timeout_keep_alive_task"),
        *("connection_made", "connection_lost", "data_received", "shutdown", "timeout_keep_alive_handler"),
        *("on_message_begin", "on_headers_complete", "on_message_complete", "send_400_response"),
        "_unset_keepalive_if_required",
    ],
)
async def test_connection_has_what_ours_relies_on(protocol, name):
    assert hasattr(protocol, name)


@pytest.mark.parametrize(
    "name", ["keep_alive", "response_started", "response_complete", "disconnected", "message_event"]
)
def test_cycle_has_what_our_connection_relies_on(name):
    assert f"self.{name} = " in inspect.getsource(RequestResponseCycle.__init__)


@pytest.mark.parametrize("name", ["read_paused", "resume_reading"])
def test_flow_control_has_what_our_connection_relies_on(name):
    assert name in inspect.getsource(FlowControl)


@pytest.mark.parametrize(
    "name", ["on_tick", "shutdown", "capture_signals", "should_exit", "force_exit", "server_state"]
)
def test_server_has_what_ours_relies_on(name):
    assert hasattr(uvicorn.Server(uvicorn.Config(no_app)), name)


async def test_server_state_has_what_our_server_relies_on():
    state = ServerState()

    assert state.tasks == state.connections == set()
    assert state.default_headers == []
    assert asyncio.iscoroutinefunction(uvicorn.Server.on_tick)
