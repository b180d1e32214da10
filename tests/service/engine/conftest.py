"""A worker on the test's own thread, or an engine with its own, on the same fake runner and observer."""

import pytest
from engine_bench import Bench
from engine_fakes import FakeRunner, RecordingObserver

from service.engine.engine import Engine


@pytest.fixture
def runner():
    return FakeRunner()


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def make_engine(runner, observer):
    """`make_engine(**changes)`: an engine that is not started; stopped when the test ends."""
    engines = []

    def make(**changes):
        options = {"observer": observer, "max_inflight": 1000, "max_batch_size": 16, **changes}
        engines.append(Engine(runner, **options))
        return engines[-1]

    yield make
    runner.gate.set()
    for engine in engines:
        engine.stop(drain=False, timeout_s=5)


@pytest.fixture
def start(make_engine):
    """`start(**changes)`: an engine that is ready."""

    def start_engine(**changes):
        engine = make_engine(**changes)
        engine.start()
        engine.wait_ready(5)
        return engine

    return start_engine
