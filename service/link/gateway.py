"""The engine's side of a channel: what one front end asks for, and what becomes of it."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import numpy as np

from service.configuration.operating_points import OperatingPoints
from service.engine.engine import Engine, EngineState
from service.engine.operating import Change, History, OperatingPoint
from service.engine.task import Answer, Pixels, Task
from service.errors import ServiceError
from service.link import failures
from service.link.channel import Channel
from service.link.messages import (
    Beat,
    Cancel,
    Configure,
    Configured,
    Counted,
    Ended,
    Failed,
    FromFrontEnd,
    Reply,
    Scrape,
    Seen,
    State,
    Submit,
    ToFrontEnd,
)
from service.link.pulse import BEAT_S, Pulse
from service.metrics import Metrics

_SEEN_TIMEOUT_S = 1.0
# Beats. A front end that is killed loses its connections: one that only waits for a processor must not be.
_FRONT_END_PATIENCE = 10


class Gateway:
    """Serves one engine to any number of front ends. Belongs to one event loop.

    Attributes:
        reached: set once a front end has begun to serve.
    """

    def __init__(self, engine: Engine, operating_points: OperatingPoints, metrics: Metrics) -> None:
        self.engine = engine
        self.operating_points = operating_points
        self.metrics = metrics
        self.reached = asyncio.Event()
        self._state = engine.state
        self._connections: set[_Connection] = set()
        operating_points.on_change = self._tell_of_change

    def broadcast(self, message: ToFrontEnd) -> None:
        """Send to every front end."""
        for connection in self._connections:
            connection.channel.send(message)

    def tell_of_state(self) -> EngineState:
        """Tell every front end of the engine's state if it is another one than at the last time; returns it."""
        state = self.engine.state
        if state is not self._state:
            self._state = state
            self.broadcast(State(state))
        return state

    async def serve(
        self,
        channel: Channel[FromFrontEnd],
        welcome: Callable[[], ToFrontEnd],
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve one front end until it is gone and the engine has let go of everything it had sent.

        Args:
            welcome: makes the first message.
            on_silence: called when a front end that has begun to serve stands still.
        """
        connection = _Connection(self, channel)
        self._connections.add(connection)
        # Made only now: whatever changes from here on is broadcast to this connection too.
        channel.send(welcome())
        pulse = Pulse(on_silence, _FRONT_END_PATIENCE)
        beating = asyncio.create_task(_beat(channel))
        watching: asyncio.Task[None] | None = None
        try:
            async for message in channel.receive():
                if watching is None:  # while it starts, a front end says nothing
                    watching = asyncio.create_task(pulse.watch())
                pulse.heard()
                connection.handle(message)
        finally:
            beating.cancel()
            if watching is not None:
                watching.cancel()
            self._connections.discard(connection)
            await connection.abandon()
            await channel.close()

    def _tell_of_change(self, history: History) -> None:
        self.broadcast(Configured(history))

    async def configure(self, change: Change, if_version: tuple[int, ...] | None) -> OperatingPoint:
        """Change the configuration; returns once it holds in every front end, or one was too slow to say so.

        Raises:
            InvalidParameterError: the thresholds are not valid.
            StoreUnavailableError: the change cannot be stored.
            VersionConflictError: the current version is another one.
        """
        point = await self.operating_points.change(change, if_version=if_version)
        seen = [asyncio.create_task(each.has_seen(point.version)) for each in self._connections]
        if seen:
            _, late = await asyncio.wait(seen, timeout=_SEEN_TIMEOUT_S)
            for task in late:
                task.cancel()
        return point


async def _beat(channel: Channel[FromFrontEnd]) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        channel.send(Beat())


class _Connection:
    """One front end: its tasks, its counts and its calls."""

    def __init__(self, gateway: Gateway, channel: Channel[FromFrontEnd]) -> None:
        self.channel = channel
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, Task] = {}
        self._ended: deque[tuple[int, Future[Answer]]] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._undecided = 0  # images presented, neither refused nor submitted yet
        self._seen_version: float = 0
        self._seen_changed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def handle(self, message: FromFrontEnd) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Cancel():
                if (task := self._tasks.get(message.task_id)) is not None:
                    self._gateway.engine.cancel(task)
            case Counted():
                self._count(message)
            case Seen():
                self._gateway.reached.set()
                self._see(message.version)
            case Scrape():
                self.channel.send(Reply(message.call, self._gateway.metrics.render(message.accept)))
            case Configure():
                call = self._loop.create_task(self._configure(message))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def has_seen(self, version: int) -> None:
        while self._seen_version < version:
            self._seen_changed.clear()
            await self._seen_changed.wait()

    async def abandon(self) -> None:
        """Drop what the front end will not read the answers to."""
        self._see(math.inf)
        for task in self._tasks.values():
            self._gateway.engine.cancel(task)
        if self._undecided > 0:
            self._gateway.metrics.image_cancelled("decode", self._undecided)
        await self._all_ended.wait()

    def _submit(self, message: Submit) -> None:
        self._undecided -= 1
        try:
            task = self._gateway.engine.submit(_pixels(message.pixels), message.policy)
        except ServiceError as error:
            self.channel.send(Ended([(message.task_id, failures.pack(error))]))
            return
        self._tasks[message.task_id] = task
        self._all_ended.clear()
        task.future.add_done_callback(partial(self._note_end, message.task_id))

    def _note_end(self, task_id: int, future: Future[Answer]) -> None:
        # On the worker's thread, once for every row of a batch: as little as possible, and one wake-up for all.
        # Some end on the loop's thread meanwhile.
        self._ended.append((task_id, future))
        with self._lock:
            asleep, self._woken = not self._woken, True
        if asleep:
            self._loop.call_soon_threadsafe(self._report_ends)

    def _report_ends(self) -> None:
        outcomes: list[tuple[int, Answer | Failed]] = []
        with self._lock:
            self._woken = False  # what is added from here on is reported now, or wakes again
        while self._ended:
            task_id, future = self._ended.popleft()
            del self._tasks[task_id]
            error = future.exception()
            outcomes.append((task_id, future.result() if error is None else failures.pack(error)))
        if outcomes:
            self.channel.send(Ended(outcomes))
        if not self._tasks:
            self._all_ended.set()

    def _count(self, counted: Counted) -> None:
        metrics = self._gateway.metrics
        metrics.images_presented(counted.presented)
        for status, duration_s in counted.requests:
            metrics.request_done(status, duration_s)
        for reason, count in counted.rejected.items():
            metrics.image_rejected(reason, count)
        for where, count in counted.cancelled.items():
            metrics.image_cancelled(where, count)
        self._undecided += counted.presented - sum(counted.rejected.values()) - sum(counted.cancelled.values())

    def _see(self, version: float) -> None:
        self._seen_version = max(self._seen_version, version)
        self._seen_changed.set()

    async def _configure(self, message: Configure) -> None:
        result: OperatingPoint | Failed
        try:
            result = await self._gateway.configure(message.change, message.if_version)
        except ServiceError as error:
            result = failures.pack(error)
        self.channel.send(Reply(message.call, result))


def _pixels(data: bytes) -> Pixels:
    side = math.isqrt(len(data) // 3)
    return np.frombuffer(data, dtype=np.uint8).reshape(3, side, side)
