"""The engine's end of the channels to its front ends."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import numpy as np

from service.configuration.operating_points import OperatingPoints
from service.engine.engine import Engine, EngineState
from service.engine.operating import Change, OperatingPoint
from service.engine.task import Answer, Pixels, Task
from service.errors import ServiceError
from service.link import messages
from service.link.channel import Channel
from service.link.pulse import Pulse, beat
from service.metrics import Metrics

_SEEN_TIMEOUT_S = 1.0
# In beats. A front end that is killed loses its connections; one that only waits for a processor must not be killed.
_FRONT_END_PATIENCE = 10


class Gateway:
    """Connects one engine to any number of front ends. Belongs to one event loop.

    Attributes:
        reached: set after a front end has begun to serve.
    """

    def __init__(self, engine: Engine, operating_points: OperatingPoints, metrics: Metrics) -> None:
        self.engine = engine
        self.operating_points = operating_points
        self.metrics = metrics
        self.reached = asyncio.Event()
        self._state = engine.state
        self._connections: set[_Connection] = set()
        operating_points.on_change = lambda history: self.broadcast(messages.Configured(history))

    def broadcast(self, message: messages.ToFrontEnd) -> None:
        """Send to all front ends."""
        for connection in self._connections:
            connection.channel.send(message)

    def tell_of_state(self) -> EngineState:
        """Send the engine's state to all front ends if it has changed; returns it."""
        state = self.engine.state
        if state is not self._state:
            self._state = state
            self.broadcast(messages.State(state))
        return state

    async def serve(
        self,
        channel: Channel[messages.FromFrontEnd],
        welcome: Callable[[], messages.ToFrontEnd],
        on_silence: Callable[[], object] = lambda: None,
    ) -> None:
        """Serve one front end until it is gone and the engine has released all of its images.

        Args:
            welcome: makes the first message.
            on_silence: called when a front end that has begun to serve stands still.
        """
        connection = _Connection(self, channel)
        self._connections.add(connection)
        # Made after the connection was added, so that every later change is sent to it.
        channel.send(welcome())
        pulse = Pulse(on_silence, _FRONT_END_PATIENCE)
        background = [asyncio.create_task(beat(channel))]
        try:
            async for message in channel.receive():
                if len(background) == 1:  # the first message: a front end that is starting sends nothing
                    background.append(asyncio.create_task(pulse.watch()))
                pulse.heard()
                connection.handle(message)
        finally:
            for task in background:
                task.cancel()
            self._connections.discard(connection)
            await connection.abandon()
            await channel.close()

    async def configure(self, change: Change, if_version: tuple[int, ...] | None) -> OperatingPoint:
        """Change the configuration; returns when it is in force in every front end that confirms within a second.

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


class _Connection:
    """One front end: its tasks, counts and calls."""

    def __init__(self, gateway: Gateway, channel: Channel[messages.FromFrontEnd]) -> None:
        self.channel = channel
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, Task] = {}
        self._ended: deque[tuple[int, Future[Answer]]] = deque()
        self._report_scheduled = False
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._undecided = 0  # images presented, neither refused nor submitted yet
        self._seen_version: float = 0
        self._seen_changed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def handle(self, message: messages.FromFrontEnd) -> None:
        match message:
            case messages.Submit():
                self._submit(message)
            case messages.Cancel():
                if (task := self._tasks.get(message.task_id)) is not None:
                    self._gateway.engine.cancel(task)
            case messages.Counted():
                self._count(message)
            case messages.Seen():
                self._gateway.reached.set()
                self._see(message.version)
            case messages.Scrape():
                self.channel.send(messages.Reply(message.call, self._gateway.metrics.render(message.accept)))
            case messages.Configure():
                call = self._loop.create_task(self._configure(message))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def has_seen(self, version: int) -> None:
        while self._seen_version < version:
            self._seen_changed.clear()
            await self._seen_changed.wait()

    async def abandon(self) -> None:
        """Cancel the images of a front end that is gone, and wait until the engine has released them."""
        self._see(math.inf)
        for task in self._tasks.values():
            self._gateway.engine.cancel(task)
        if self._undecided > 0:
            self._gateway.metrics.image_cancelled("decode", self._undecided)
        await self._all_ended.wait()

    def _submit(self, message: messages.Submit) -> None:
        self._undecided -= 1
        try:
            task = self._gateway.engine.submit(_pixels(message.pixels), message.policy)
        except ServiceError as error:
            self.channel.send(messages.Ended([(message.task_id, messages.Failed.of(error))]))
            return
        self._tasks[message.task_id] = task
        self._all_ended.clear()
        task.future.add_done_callback(partial(self._note_end, message.task_id))

    def _note_end(self, task_id: int, future: Future[Answer]) -> None:
        # Called for every image of a batch, mostly on the worker's thread: it must be fast, and one report is enough
        # for all. Without a lock: two threads may schedule two reports, of which the second finds nothing.
        self._ended.append((task_id, future))
        if not self._report_scheduled:
            self._report_scheduled = True
            self._loop.call_soon_threadsafe(self._report_ends)

    def _report_ends(self) -> None:
        self._report_scheduled = False  # before the loop, which must not miss a later entry
        outcomes: list[tuple[int, Answer | messages.Failed]] = []
        while self._ended:
            task_id, future = self._ended.popleft()
            del self._tasks[task_id]
            error = future.exception()
            outcomes.append((task_id, future.result() if error is None else messages.Failed.of(error)))
        if outcomes:
            self.channel.send(messages.Ended(outcomes))
        if not self._tasks:
            self._all_ended.set()

    def _count(self, counted: messages.Counted) -> None:
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

    async def _configure(self, message: messages.Configure) -> None:
        result: OperatingPoint | messages.Failed
        try:
            result = await self._gateway.configure(message.change, message.if_version)
        except ServiceError as error:
            result = messages.Failed.of(error)
        self.channel.send(messages.Reply(message.call, result))


def _pixels(data: bytes) -> Pixels:
    side = math.isqrt(len(data) // 3)
    return np.frombuffer(data, dtype=np.uint8).reshape(3, side, side)
