"""The engine process: owns the engine, its configuration and its metrics, and keeps the front ends running."""

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

from service.engine.engine import EngineState
from service.http.listener import listen, url_of
from service.link.channel import Channel
from service.link.gateway import Gateway
from service.link.messages import Drain, FromFrontEnd, ShutDown, State
from service.replica.backend import Backend, welcome
from service.replica.front_ends import FrontEndProcess, FrontEndTask
from service.replica.heap import settle_heap
from service.settings import Settings

_logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 5e-5
_WATCH_INTERVAL_S = 0.05
# A front end that dies young this often in a row will not live longer the next time.
_MAX_EARLY_DEATHS = 3
_EARLY_S = 5.0
_RESTART_DELAY_S = 0.1
# What a front end may take beyond its drain timeout, for the interpreter to end.
_EXIT_GRACE_S = 3.0
# The same before anything was taken: a front end that is still starting does not listen to what it is told.
_STARTING_GRACE_S = 0.5
# What the front ends have for their last answers once the engine is dead.
_DEATH_GRACE_S = 0.8
# For the engine to let go of what a front end that was killed had sent.
_KILLED_GRACE_S = 1.0


class Replica:
    """One engine and its front ends, from start to end.

    Args:
        listener: bound to the address.
    """

    def __init__(self, backend: Backend, settings: Settings, listener: socket.socket) -> None:
        self._backend = backend
        self._listener = listener
        self._settings = settings
        self._gateway = Gateway(backend.engine, backend.operating_points, backend.metrics)
        self._front_ends: dict[int, FrontEndProcess | FrontEndTask] = {}
        self._draining = False
        self._shutting_down = False
        self._ended_early = False  # asked to end before it was ever ready
        self._failed = False
        self._wake = asyncio.Event()
        self._aborted = asyncio.Event()

    def run(self) -> int:
        """Serve until a signal or a death; returns the process's exit code."""
        # The worker takes the interpreter's lock again before a thread that was woken for it has got up; by default
        # that thread then waits 5 ms, which is a whole batch.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        settle_heap()
        try:
            import uvloop
        except ImportError:
            return asyncio.run(self._run())
        return uvloop.run(self._run())

    async def _run(self) -> int:
        # Kept here too, so that a connection in it outlives a front end.
        # 0 front-end processes are one front end in this process.
        num_front_ends = max(1, self._settings.http_workers)
        listener, permits = self._listener, _shared_memory(8 * num_front_ends)
        listen(listener)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        engine = self._backend.engine
        engine.start()
        # Before the first front end: no request is to be admitted with thresholds that a restart brought back.
        await self._backend.operating_points.start()
        keeping = [
            asyncio.create_task(self._keep_front_end(index, listener, permits)) for index in range(num_front_ends)
        ]
        announcing = asyncio.create_task(self._announce(listener))
        try:
            await self._watch()
            listener.close()
            if not self._failed:
                self._gateway.broadcast(ShutDown())
            await self._front_ends_end(keeping)
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
        return 1 if self._failed else 0

    async def _announce(self, listener: socket.socket) -> None:
        await self._gateway.reached.wait()
        _logger.info("running on %s with %d front end(s)", url_of(listener), self._settings.http_workers)

    async def _front_ends_end(self, keeping: list[asyncio.Task[None]]) -> None:
        """Wait for the front ends, as long as they may take, or until told not to."""
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
        """Tell the front ends of every change, until it is time to end."""
        while not self._shutting_down:
            engine = self._backend.engine
            if engine.busy_s > self._settings.max_step_s:
                _logger.critical("a batch has taken more than %g s; the device hangs", self._settings.max_step_s)
                engine.stop(drain=False, timeout_s=0.0)
                self._end(EngineState.DEAD)
            elif self._gateway.tell_of_state() is EngineState.DEAD:
                self._end(EngineState.DEAD)
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
            # Nobody has been told to come here yet, so nobody needs time to go elsewhere.
            self._ended_early = True
            self._shut_down()
            return
        self._gateway.broadcast(Drain())
        asyncio.get_running_loop().call_later(self._settings.drain_delay_s, self._shut_down)

    def _end(self, state: EngineState) -> None:
        """End with an error."""
        self._gateway.broadcast(State(state))
        self._failed = True
        self._shut_down()

    def _shut_down(self) -> None:
        self._shutting_down = True
        self._wake.set()

    async def _keep_front_end(self, index: int, listener: socket.socket, permits: tuple[int, memoryview]) -> None:
        """Run a front end, and another one when it dies; it holds nothing that a new one could not have."""
        try:
            await self._run_front_ends(index, listener, permits)
        except Exception:
            _logger.exception("front end %d cannot be kept running", index)
            self._end(EngineState.DEAD)

    async def _run_front_ends(self, index: int, listener: socket.socket, permits: tuple[int, memoryview]) -> None:
        descriptor, taken = permits
        loop = asyncio.get_running_loop()
        early_deaths = 0
        while not self._shutting_down:
            started_at = loop.time()
            if self._settings.http_workers:
                front_end: FrontEndProcess | FrontEndTask = FrontEndProcess.start(index, listener.fileno(), descriptor)
            else:
                front_end = FrontEndTask.start(listener, taken)
            self._front_ends[index] = front_end
            channel = await Channel[FromFrontEnd].open(front_end.channel, FromFrontEnd)
            await self._gateway.serve(channel, partial(welcome, self._backend, self._settings), front_end.kill)
            code = await front_end.wait()
            taken[index] = 0
            if self._shutting_down:
                self._failed |= code != 0 and not self._ended_early
                return
            _logger.error("front end %d ended with code %d; its connections are lost", index, code)
            self._backend.metrics.front_end_died()
            early_deaths = early_deaths + 1 if loop.time() - started_at < _EARLY_S else 0
            if early_deaths >= _MAX_EARLY_DEATHS:
                _logger.critical("front end %d does not stay up", index)
                self._end(EngineState.DEAD)
                return
            await asyncio.sleep(_RESTART_DELAY_S)


def _shared_memory(size: int) -> tuple[int, memoryview]:
    """Memory that front ends inherit by its descriptor; it has no name that could be left behind."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("dvt-permits")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor, memoryview(mmap.mmap(descriptor, size)).cast("q")
