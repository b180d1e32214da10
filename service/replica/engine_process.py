"""The engine process: runs the engine, holds configuration and metrics, and keeps the front ends running."""

import asyncio
import logging
import mmap
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import partial
from typing import Any

import uvloop

from service.engine.engine import EngineState
from service.http.listener import listen, url_of
from service.link.channel import Channel
from service.link.gateway import Gateway
from service.link.messages import Drain, FromFrontEnd, ShutDown, State
from service.replica.backend import Backend, welcome
from service.replica.front_ends import FrontEnd, start_process, start_task
from service.replica.process import settle_heap
from service.settings import Settings

_logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 5e-5
_WATCH_INTERVAL_S = 0.05
# After so many early deaths in a row, the next front end will not live longer either.
_MAX_EARLY_DEATHS = 3
_EARLY_S = 5.0
_RESTART_DELAY_S = 0.1
# Time to end for a front end, beyond its drain timeout.
_EXIT_GRACE_S = 3.0
# The same before the replica was ready: a front end that is starting does not read messages.
_STARTING_GRACE_S = 0.5
# Time for the last answers of the front ends after the engine has died.
_DEATH_GRACE_S = 0.8
# Time for the engine to release the images of a killed front end.
_KILLED_GRACE_S = 1.0


class Replica:
    """One engine and its front ends.

    Args:
        listener: bound to the address.
    """

    def __init__(self, backend: Backend, settings: Settings, listener: socket.socket) -> None:
        self._backend = backend
        self._listener = listener
        self._settings = settings
        self._gateway = Gateway(backend.engine, backend.operating_points, backend.metrics)
        # Without separate processes, one front end runs in this process.
        self._permits_fd, self._permits_taken = _shared_numbers(max(1, settings.http_workers))
        self._front_ends: dict[int, FrontEnd] = {}
        self._draining = False
        self._shutting_down = False
        self._ended_early = False  # told to end before it was ever ready
        self._failed = False
        self._wake = asyncio.Event()
        self._aborted = asyncio.Event()

    def run(self) -> int:
        """Serve until a signal or a failure; returns the exit code of the process."""
        # The worker can take the interpreter lock again before a waiting thread wakes up. That thread then waits for
        # one switch interval; the default of 5 ms is as long as a batch.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        settle_heap()
        return uvloop.run(self._run())

    async def _run(self) -> int:
        # Open in this process too, so that waiting connections outlive a front end.
        listen(self._listener)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        engine = self._backend.engine
        engine.start()
        # Before any front end, so that no request is admitted with thresholds from before a restart.
        await self._backend.operating_points.start()
        keeping = [asyncio.create_task(self._keep_front_end(index)) for index in range(len(self._permits_taken))]
        announcing = asyncio.create_task(self._announce())
        try:
            await self._watch()
            self._listener.close()
            if not self._failed:
                self._gateway.broadcast(ShutDown())
            await self._until_ended(keeping)
        finally:
            announcing.cancel()
            for front_end in self._front_ends.values():
                front_end.kill()
            _, waiting = await asyncio.wait(keeping, timeout=_KILLED_GRACE_S)
            for task in waiting:
                task.cancel()
            for front_end in self._front_ends.values():
                await front_end.wait()
            await self._backend.operating_points.close()
            engine.stop(drain=False, timeout_s=0.0 if self._failed else self._settings.drain_timeout_s)
        return int(self._failed)

    async def _announce(self) -> None:
        await self._gateway.reached.wait()
        _logger.info("running on %s with %d front end(s)", url_of(self._listener), self._settings.http_workers)

    async def _until_ended(self, keeping: list[asyncio.Task[None]]) -> None:
        """Wait until all front ends have ended, their time is over, or a second signal comes."""
        grace_s = self._settings.drain_timeout_s + _EXIT_GRACE_S
        if self._failed:
            grace_s = _DEATH_GRACE_S
        elif self._ended_early:
            grace_s = _STARTING_GRACE_S
        ended: asyncio.Future[Any] = asyncio.gather(*keeping)
        aborted: asyncio.Future[Any] = asyncio.create_task(self._aborted.wait())
        await asyncio.wait({ended, aborted}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        aborted.cancel()
        self._failed |= not ended.done() and not self._ended_early

    async def _watch(self) -> None:
        """Report the engine's state to the front ends until the replica shuts down."""
        engine = self._backend.engine
        while not self._shutting_down:
            if engine.busy_s > self._settings.max_step_s:
                _logger.critical("a batch has taken more than %g s; the device hangs", self._settings.max_step_s)
                engine.stop(drain=False, timeout_s=0.0)
                self._fail()
            elif self._gateway.tell_of_state() is EngineState.DEAD:
                self._fail()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _WATCH_INTERVAL_S)

    def _on_signal(self) -> None:
        if self._draining:
            self._failed = True
            self._aborted.set()
            self._shut_down()
            return
        self._draining = True
        if self._backend.engine.state is EngineState.STARTING:
            # It was never ready, so no client needs time to go elsewhere.
            self._ended_early = True
            self._shut_down()
            return
        self._gateway.broadcast(Drain())
        asyncio.get_running_loop().call_later(self._settings.drain_delay_s, self._shut_down)

    def _fail(self) -> None:
        """Shut down with exit code 1; the front ends are told that the engine is dead."""
        self._gateway.broadcast(State(EngineState.DEAD))
        self._failed = True
        self._shut_down()

    def _shut_down(self) -> None:
        self._shutting_down = True
        self._wake.set()

    async def _keep_front_end(self, index: int) -> None:
        """Run a front end, and a new one after each death."""
        try:
            await self._run_front_ends(index)
        except Exception:
            _logger.exception("front end %d cannot be kept running", index)
            self._fail()

    async def _run_front_ends(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        early_deaths = 0
        while not self._shutting_down:
            started_at = loop.time()
            if self._settings.http_workers:
                front_end = start_process(index, self._listener.fileno(), self._permits_fd)
            else:
                front_end = start_task(self._listener, self._permits_taken)
            self._front_ends[index] = front_end
            channel = await Channel[FromFrontEnd].open(front_end.channel, FromFrontEnd)
            await self._gateway.serve(channel, partial(welcome, self._backend, self._settings), front_end.kill)
            code = await front_end.wait()
            self._permits_taken[index] = 0
            if self._shutting_down:
                self._failed |= code != 0 and not self._ended_early
                return
            _logger.error("front end %d ended with code %d; its connections are lost", index, code)
            self._backend.metrics.front_end_died()
            early_deaths = early_deaths + 1 if loop.time() - started_at < _EARLY_S else 0
            if early_deaths >= _MAX_EARLY_DEATHS:
                _logger.critical("front end %d does not stay up", index)
                self._fail()
                return
            await asyncio.sleep(_RESTART_DELAY_S)


def _shared_numbers(count: int) -> tuple[int, memoryview]:
    """Numbers in memory without a name, which nothing needs to delete, and the descriptor that front ends inherit."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("dvt-permits")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, 8 * count)
    return descriptor, memoryview(mmap.mmap(descriptor, 8 * count)).cast("q")
