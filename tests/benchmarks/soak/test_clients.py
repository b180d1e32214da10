"""Every kind of client on a real application."""

import asyncio
import os

import uvicorn

from benchmarks.soak import clients
from benchmarks.soak.checks import judge
from benchmarks.soak.clients import CLIENTS, SoakRecord, soak
from service.capacity.child import Child
from service.http.app import create_app
from service.replica.backend import build
from service.replica.in_process import linked
from service.settings import Settings


async def test_soak_all_clients_come_and_a_sound_server_passes(model, monkeypatch):
    monkeypatch.setattr(clients, "_SAMPLE_INTERVAL_S", 0.1)
    settings = Settings(model=str(model), device="cpu", max_inflight=8, http_port=0)
    books = SoakRecord()
    async with linked(build(settings), settings) as context:
        server = uvicorn.Server(uvicorn.Config(create_app(context), port=0, log_level="error", lifespan="on"))
        serving = asyncio.create_task(server.serve())
        while not (server.started and context.ready):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            metrics = await soak(Child("127.0.0.1", port, os.getpid()), 1.0, books)
        finally:
            server.should_exit = True
            await serving

    assert {check.name for check in judge(books, metrics, max_growth_mb=1e6) if not check.ok} == set()
    assert books.full_status == 200
    assert {kind for kind, number in books.sent.items() if number} == set(CLIENTS)
