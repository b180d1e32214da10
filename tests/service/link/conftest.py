"""A gateway around a real engine with a fake runner, and front ends connected to it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from engine_fakes import STAGE_MACS, FakeRunner

from service.configuration.operating_points import OperatingPoints
from service.engine.engine import Engine
from service.engine.task import Answer
from service.link.channel import Channel
from service.link.gateway import Gateway
from service.link.messages import FromFrontEnd, Welcome
from service.link.remote import RemoteEngine, RemoteTask
from service.metrics import Metrics

MAX_INFLIGHT = 8


@dataclass
class Together:
    """One engine and the front ends connected to it, all on this event loop."""

    runner: FakeRunner
    engine: Engine
    points: OperatingPoints
    metrics: Metrics
    gateway: Gateway
    permits: list[int] = field(default_factory=lambda: [0, 0])
    served: list[asyncio.Task[None]] = field(default_factory=list)
    channels: list[Channel[FromFrontEnd]] = field(default_factory=list)
    remotes: list[RemoteEngine] = field(default_factory=list)

    def welcome(self) -> Welcome:
        return Welcome(
            settings={},
            manifest=b"",
            calibration=None,
            device="cpu",
            dtype="float32",
            stage_macs=STAGE_MACS,
            baseline_macs=10,
            configuration=self.points.history,
            state=self.engine.state,
        )

    async def connect(self, on_silence: Callable[[], None] = lambda: None) -> RemoteEngine:
        """A front end that is connected and listening."""
        ours, theirs = socket.socketpair()
        channel: Channel[FromFrontEnd] = await Channel.open(ours, FromFrontEnd)
        index = len(self.channels)
        remote = RemoteEngine(
            self.welcome(), theirs, max_inflight=MAX_INFLIGHT, permits_taken=self.permits, index=index
        )
        self.served.append(asyncio.create_task(self.gateway.serve(channel, self.welcome, on_silence)))
        self.channels.append(channel)
        self.remotes.append(remote)
        await remote.start()
        # The answer to a call shows that both directions work.
        await remote.scrape()
        return remote

    @staticmethod
    async def outcome(task: RemoteTask) -> Answer:
        return await asyncio.wait_for(asyncio.wrap_future(task.future), 5)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def images_are_accounted_for(self) -> bool:
        def total(name: str) -> float:
            samples = (sample for metric in self.metrics.registry.collect() for sample in metric.samples)
            return sum(sample.value for sample in samples if sample.name == name)

        ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
        return total("dvt_images_total") == sum(map(total, ends))


@pytest.fixture
async def together() -> AsyncIterator[Together]:
    runner = FakeRunner()
    metrics = Metrics(len(STAGE_MACS), 10)
    engine = Engine(runner, observer=metrics, max_inflight=MAX_INFLIGHT, max_batch_size=4)
    points = OperatingPoints((0.5, 0.5, 0.5))
    engine.start()
    engine.wait_ready(5)
    parts = Together(runner, engine, points, metrics, Gateway(engine, points, metrics))
    yield parts
    runner.gate.set()
    for remote in parts.remotes:
        await remote.close()
    await asyncio.gather(*parts.served)
    engine.stop(drain=False, timeout_s=5)
