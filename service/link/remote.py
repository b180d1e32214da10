"""A front end's side of a channel: the engine as the routes see it, its configuration and its metrics."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableSequence, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from service.engine.engine import EngineState
from service.engine.operating import Change, OperatingPoint
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
from service.link import failures
from service.link.channel import Channel
from service.link.counts import Counts
from service.link.messages import (
    Beat,
    Cancel,
    Configure,
    Configured,
    Drain,
    Ended,
    Failed,
    FromFrontEnd,
    Reply,
    Scrape,
    Seen,
    ShutDown,
    State,
    Submit,
    ToFrontEnd,
    Welcome,
)
from service.link.permits import PermitPool, Permits
from service.link.pulse import BEAT_S, Pulse

_REFUSALS = {NotReadyError: "not_ready", OverloadedError: "full", TooLargeError: "too_large"}
"""The reason under which images that were not admitted are counted."""
_REPORT_INTERVAL_S = 0.1
# An engine that still runs answers by the deadline; this long afterwards it is not waited for.
_OVERDUE_S = 0.5


@dataclass(slots=True, eq=False)
class RemoteTask:
    """An image that the engine process works on.

    Attributes:
        expiry: ends it after its deadline; None without one.
    """

    task_id: int
    future: Future[Answer] = field(default_factory=Future)
    expiry: asyncio.TimerHandle | None = None


class RemoteEngine:
    """The engine as a front end sees it. Everything happens on the event loop it was started on.

    Args:
        open_channel: called once, by `start`.
        permits_taken: permits out at each front end, shared memory; this one's own is `permits_taken[index]`.

    Attributes:
        on_message: told of the messages that concern the whole process.
        on_lost: called when the engine process is gone.
        dtype: floating point type the stages are computed in.
    """

    def __init__(
        self,
        welcome: Welcome,
        open_channel: Callable[[], Awaitable[Channel[ToFrontEnd]]],
        *,
        max_inflight: int,
        permits_taken: MutableSequence[int],
        index: int,
    ) -> None:
        self.stage_macs = welcome.stage_macs
        self.baseline_macs = welcome.baseline_macs
        self.reported = welcome.state
        self.dtype = welcome.dtype
        self.counts = Counts(self.scrape)
        self.configuration = welcome.configuration
        self._open_channel = open_channel
        self._permits = PermitPool(max_inflight, time.monotonic, permits_taken, index)
        self.on_message: Callable[[Drain | ShutDown], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None
        self._channel: Channel[ToFrontEnd] | None = None
        self._task_ids = count()
        self._tasks: dict[int, RemoteTask] = {}
        # Ended here, while the engine still has them: they keep their places.
        self._given_up: set[int] = set()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._closing = False
        self._background: list[asyncio.Task[None]] = []
        self._pulse = Pulse(self._give_up)

    @property
    def state(self) -> EngineState:
        """As the engine process says; dead while it says nothing."""
        return EngineState.DEAD if self._pulse.silent else self.reported

    @property
    def inflight(self) -> int:
        """How many images are admitted, over all front ends."""
        return self._permits.taken

    async def start(self) -> None:
        """Connect to the engine process, and listen to it from then on."""
        self._channel = channel = await self._open_channel()
        self._send(Seen(self.configuration[-1].version))
        work = (self._listen(channel), self._report(), self._pulse.watch(), self._beat())
        self._background = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        """Leave the engine, which then drops what this front end has under way."""
        self._closing = True
        if self._channel is not None:
            self._send_counts()
            await self._channel.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def admit(self, count: int) -> Permits:
        """Take one permit per image for the whole cascade, at once or not at all; a refusal is counted.

        Images that other front ends have admitted count too.

        Raises:
            InvalidParameterError: fewer than one image.
            NotReadyError: the engine is not ready.
            OverloadedError: there are not that many permits now.
            TooLargeError: there will never be that many.
        """
        try:
            if self.state is not EngineState.READY:
                raise NotReadyError(f"the engine is {self.state}")
            return self._permits.take(count)
        except (NotReadyError, OverloadedError, TooLargeError) as error:
            self.counts.image_rejected(_REFUSALS[type(error)], count)
            raise

    def require_room(self) -> None:
        """Refuse a request of any size while no permit is left; the caller counts it.

        Raises:
            OverloadedError: no permit is left.
        """
        self._permits.require_any()

    def submit(self, pixels: Pixels, policy: Policy) -> RemoteTask:
        """As `Engine.submit`, except that the engine's refusal comes through the future."""
        task = RemoteTask(next(self._task_ids))
        if self._channel is None or self.state in (EngineState.DEAD, EngineState.STOPPED):
            self.counts.image_rejected("not_ready")
            raise NotReadyError(f"the engine is {self.state}")
        self._tasks[task.task_id] = task
        if policy.deadline is not None:
            overdue_s = policy.deadline - time.monotonic() + _OVERDUE_S
            task.expiry = asyncio.get_running_loop().call_later(overdue_s, self._expire, task.task_id)
        self._send_counts()
        self._channel.send(Submit(task.task_id, policy, pixels.tobytes()))
        return task

    def cancel(self, task: RemoteTask) -> None:
        """As `Engine.cancel`."""
        if self._channel is not None and task.task_id in self._tasks:
            self._channel.send(Cancel(task.task_id))

    async def configure(self, change: Change, if_version: Sequence[int] | None) -> OperatingPoint:
        """Change the configuration of the whole replica; it holds everywhere when this returns."""
        versions = None if if_version is None else tuple(if_version)
        point: OperatingPoint = await self._call(Configure(next(self._task_ids), change, versions))
        return point

    async def scrape(self, accept: str = "") -> bytes:
        """The metrics of the whole replica."""
        self._send_counts()
        text: bytes = await self._call(Scrape(next(self._task_ids), accept))
        return text

    async def _call(self, message: Configure | Scrape) -> Any:
        if self._channel is None or self.state is EngineState.DEAD:
            raise NotReadyError(f"the engine is {self.state}")
        reply = self._calls[message.call] = asyncio.get_running_loop().create_future()
        self._channel.send(message)
        try:
            return await reply
        finally:
            self._calls.pop(message.call, None)

    async def _listen(self, channel: Channel[ToFrontEnd]) -> None:
        try:
            async for message in channel.receive():
                self._pulse.heard()
                self._handle(message)
        finally:
            self._lose()

    def _handle(self, message: ToFrontEnd) -> None:
        match message:
            case Ended():
                for task_id, outcome in message.outcomes:
                    self._end(task_id, outcome)
            case Reply():
                if (reply := self._calls.get(message.call)) is not None and not reply.done():
                    if isinstance(message.result, Failed):
                        reply.set_exception(failures.unpack(message.result))
                    else:
                        reply.set_result(message.result)
            case Configured():
                self.configuration = message.configuration
                self._send(Seen(message.configuration[-1].version))
            case State():
                self.reported = message.state
                if message.state is EngineState.DEAD:
                    self.on_lost()
            case Drain() | ShutDown():
                self.on_message(message)

    def _end(self, task_id: int, outcome: Answer | Failed) -> None:
        task = self._tasks.pop(task_id, None)
        if task is None:
            self._given_up.remove(task_id)
            self._permits.put_back(1)
            return
        if task.expiry is not None:
            task.expiry.cancel()
        future = task.future
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Failed):
            future.set_exception(failures.unpack(outcome))
        else:
            future.set_result(outcome)

    def _lose(self) -> None:
        """The engine process is gone: whatever waits for it ends now."""
        self.reported = EngineState.DEAD
        self._end_all("the engine process is gone")
        self._permits.put_back(len(self._given_up))
        self._given_up.clear()
        if not self._closing:
            self.on_lost()

    def _give_up(self) -> None:
        """The engine process stands still: whatever waits for it ends now; it may come back."""
        for task_id in list(self._tasks):
            self._leave(task_id, DeviceLostError("the engine process does not answer"))
        self._end_all("the engine process does not answer")

    def _end_all(self, why: str) -> None:
        for task_id in list(self._tasks):
            self._end(task_id, failures.pack(DeviceLostError(why)))
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(NotReadyError(why))

    def _expire(self, task_id: int) -> None:
        """A deadline holds whatever the engine process does."""
        self._leave(task_id, DeadlineExceededError("the engine did not answer by the deadline"))

    def _leave(self, task_id: int, error: ServiceError) -> None:
        """End an image that the engine still has."""
        self._send(Cancel(task_id))
        self._permits.hold(1)
        self._given_up.add(task_id)
        self._end(task_id, failures.pack(error))

    async def _beat(self) -> None:
        while True:
            self._send(Beat())
            await asyncio.sleep(BEAT_S)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_INTERVAL_S)
            self._send_counts()

    def _send_counts(self) -> None:
        # While the engine stands still, what was counted waits here and not in the socket.
        if self._channel is not None and not self._pulse.silent and (counted := self.counts.take()) is not None:
            self._channel.send(counted)

    def _send(self, message: FromFrontEnd) -> None:
        if self._channel is not None:
            self._channel.send(message)
