"""A front end's end of the channel: the engine and the configuration as the routes see them."""

import asyncio
import socket
import time
from collections.abc import Callable, MutableSequence, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from service.engine.engine import EngineState
from service.engine.operating import Change, History, OperatingPoint
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels
from service.errors import (
    DeadlineExceededError,
    DeviceLostError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    TooLargeError,
)
from service.link import messages
from service.link.channel import Channel
from service.link.counts import Counts
from service.link.permits import PermitPool, Permits
from service.link.pulse import Pulse, beat

_REFUSALS = {NotReadyError: "not_ready", OverloadedError: "full", TooLargeError: "too_large"}
"""Under which reason images that were not admitted are counted."""
_REPORT_INTERVAL_S = 0.1
# A running engine answers by the deadline; the front end waits this much longer.
_OVERDUE_S = 0.5


@dataclass(slots=True, eq=False)
class RemoteTask:
    """An image in the engine process.

    Attributes:
        expiry: ends the task some time after its deadline; None without a deadline.
    """

    task_id: int
    future: Future[Answer] = field(default_factory=Future)
    expiry: asyncio.TimerHandle | None = None


class RemoteEngine:
    """The engine as a front end sees it. Belongs to the event loop that started it.

    Args:
        sock: connected to the engine's gateway.
        permits_taken: permits taken by each front end, in shared memory; this one's own is `permits_taken[index]`.

    Attributes:
        reported: the state that the engine process reported last.
        on_message: called with the messages for the whole process.
        on_lost: called when the engine is dead or its process is gone.
        dtype: floating point type of the stages.
    """

    def __init__(
        self,
        welcome: messages.Welcome,
        sock: socket.socket,
        *,
        max_inflight: int,
        permits_taken: MutableSequence[int],
        index: int,
    ) -> None:
        self.stage_macs = welcome.stage_macs
        self.baseline_macs = welcome.baseline_macs
        self.reported = welcome.state
        self.dtype = welcome.dtype
        self.counts = Counts()
        self.configuration = welcome.configuration
        self.on_message: Callable[[messages.Drain | messages.ShutDown], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None
        self._socket = sock
        self._channel: Channel[messages.ToFrontEnd]  # from `start` on
        self._permits = PermitPool(max_inflight, time.monotonic, permits_taken, index)
        self._task_ids = count()
        self._tasks: dict[int, RemoteTask] = {}
        # Tasks that ended here while the engine still has their images; each holds a permit.
        self._given_up: set[int] = set()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._closing = False
        self._background: list[asyncio.Task[None]] = []
        self._pulse = Pulse(self._give_up)

    @property
    def state(self) -> EngineState:
        """The engine's state; dead while its process is silent."""
        return EngineState.DEAD if self._pulse.silent else self.reported

    @property
    def inflight(self) -> int:
        """Number of admitted images, over all front ends."""
        return self._permits.taken

    async def start(self) -> None:
        """Connect to the engine process and listen to it."""
        self._channel = await Channel[messages.ToFrontEnd].open(self._socket, messages.ToFrontEnd)
        self._channel.send(messages.Seen(self.configuration[-1].version))
        work = (self._listen(), self._report(), self._pulse.watch(), beat(self._channel))
        self._background = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        """Disconnect; the engine drops the images of this front end."""
        self._closing = True
        self._send_counts()
        await self._channel.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def admit(self, count: int) -> Permits:
        """Take one permit per image for its whole walk, at once or not at all, and count a refusal.

        The images of all front ends share the permits.

        Raises:
            InvalidParameterError: fewer than one image.
            NotReadyError: the engine is not ready.
            OverloadedError: too few permits are free now.
            TooLargeError: more images than there are permits.
        """
        try:
            if self.state is not EngineState.READY:
                raise NotReadyError(f"the engine is {self.state}")
            return self._permits.take(count)
        except (NotReadyError, OverloadedError, TooLargeError) as error:
            self.counts.image_rejected(_REFUSALS[type(error)], count)
            raise

    def require_room(self) -> None:
        """Refuse a request of any size when no permit is free; the caller counts the refusal.

        Raises:
            OverloadedError: all permits are taken.
        """
        self._permits.require_any()

    def submit(self, pixels: Pixels, policy: Policy) -> RemoteTask:
        """As `Engine.submit`, but a refusal by the engine ends the future.

        Raises:
            NotReadyError: the engine is stopped or dead.
        """
        if self.state in (EngineState.DEAD, EngineState.STOPPED):
            self.counts.image_rejected("not_ready")
            raise NotReadyError(f"the engine is {self.state}")
        task = RemoteTask(next(self._task_ids))
        self._tasks[task.task_id] = task
        if policy.deadline is not None:
            overdue_s = policy.deadline - time.monotonic() + _OVERDUE_S
            error = DeadlineExceededError("the engine did not answer by the deadline")
            task.expiry = asyncio.get_running_loop().call_later(overdue_s, self._leave, task.task_id, error)
        self._send_counts()
        self._channel.send(messages.Submit(task.task_id, policy, pixels.tobytes()))
        return task

    def cancel(self, task: RemoteTask) -> None:
        """As `Engine.cancel`."""
        if task.task_id in self._tasks:
            self._channel.send(messages.Cancel(task.task_id))

    async def configure(self, change: Change, if_version: Sequence[int] | None) -> OperatingPoint:
        """Change the configuration of the whole replica; it is in force everywhere when this returns.

        Raises:
            NotReadyError: the engine process is silent or gone.
            ServiceError: as `OperatingPoints.change`.
        """
        versions = None if if_version is None else tuple(if_version)
        point: OperatingPoint = await self._call(messages.Configure(next(self._task_ids), change, versions))
        return point

    async def scrape(self, accept: str = "") -> bytes:
        """The metrics of the whole replica, in the format of an `Accept` header; raises as `configure`."""
        self._send_counts()
        text: bytes = await self._call(messages.Scrape(next(self._task_ids), accept))
        return text

    async def _call(self, message: messages.Configure | messages.Scrape) -> Any:
        if self.state is EngineState.DEAD:
            raise NotReadyError(f"the engine is {self.state}")
        reply = self._calls[message.call] = asyncio.get_running_loop().create_future()
        self._channel.send(message)
        try:
            return await reply
        finally:
            del self._calls[message.call]

    async def _listen(self) -> None:
        try:
            async for message in self._channel.receive():
                self._pulse.heard()
                self._handle(message)
        finally:
            self._lose()

    def _handle(self, message: messages.ToFrontEnd) -> None:
        match message:
            case messages.Ended():
                for task_id, outcome in message.outcomes:
                    self._end(task_id, outcome)
            case messages.Reply():
                if (reply := self._calls.get(message.call)) is not None and not reply.done():
                    _settle(reply, message.result)
            case messages.Configured():
                self.configuration = message.configuration
                self._channel.send(messages.Seen(message.configuration[-1].version))
            case messages.State():
                self.reported = message.state
                if message.state is EngineState.DEAD:
                    self.on_lost()
            case messages.Drain() | messages.ShutDown():
                self.on_message(message)

    def _end(self, task_id: int, outcome: Answer | messages.Failed) -> None:
        task = self._tasks.pop(task_id, None)
        if task is None:
            self._given_up.remove(task_id)
            self._permits.put_back(1)
            return
        if task.expiry is not None:
            task.expiry.cancel()
        if task.future.set_running_or_notify_cancel():
            _settle(task.future, outcome)

    def _lose(self) -> None:
        """The engine process is gone: nothing is left to wait for."""
        self.reported = EngineState.DEAD
        self._give_up("the engine process is gone")
        if self._given_up:
            self._permits.put_back(len(self._given_up))
            self._given_up.clear()
        if not self._closing:
            self.on_lost()

    def _give_up(self, why: str = "the engine process does not answer") -> None:
        """End everything in progress; an engine process that stands still may continue later."""
        for task_id in list(self._tasks):
            self._leave(task_id, DeviceLostError(why))
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(NotReadyError(why))

    def _leave(self, task_id: int, error: ServiceError) -> None:
        """End a task while the engine still has its image, whose permit stays taken."""
        self._channel.send(messages.Cancel(task_id))
        self._permits.hold(1)
        self._given_up.add(task_id)
        self._end(task_id, messages.Failed.of(error))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_INTERVAL_S)
            self._send_counts()

    def _send_counts(self) -> None:
        # While the engine process is silent, counts wait here instead of in the socket.
        if not self._pulse.silent and (counted := self.counts.take()) is not None:
            self._channel.send(counted)


def _settle(future: Any, outcome: Any) -> None:
    """Set the result of a future, or its exception if the outcome is `Failed`."""
    if isinstance(outcome, messages.Failed):
        future.set_exception(outcome.error())
    else:
        future.set_result(outcome)


class RemoteOperatingPoints:
    """The configuration of the replica, which the engine process holds."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    @property
    def current(self) -> OperatingPoint:
        """The configuration that newly admitted requests get."""
        return self._engine.configuration[-1]

    @property
    def history(self) -> History:
        """The last versions."""
        return self._engine.configuration

    async def change(self, change: Change, *, if_version: Sequence[int] | None = None) -> OperatingPoint:
        """Put new thresholds into force in all front ends; raises as `OperatingPoints.change`."""
        return await self._engine.configure(change, if_version)
