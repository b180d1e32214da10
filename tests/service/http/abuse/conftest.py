"""A real server with small limits, and the proof after each test that it has taken no harm."""

import time

import pytest
from tiny_model import png, save_tiny_model
from wire import MAX_BODY_BYTES, MAX_IMAGES, Wire, get, request

from benchmarks.http.books import balance, parse_metrics, sum_of
from service.capacity.child import served

SETTINGS = {
    "DVT_MAX_INFLIGHT": str(MAX_IMAGES),
    "DVT_MAX_IMAGES_PER_REQUEST": str(MAX_IMAGES),
    "DVT_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    "DVT_CLIENT_TIMEOUT_S": "1",
    "DVT_DTYPE": "float32",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def _server(model):
    with served(environment={**SETTINGS, "DVT_MODEL": model}) as child:
        yield child


@pytest.fixture
def server(_server):
    """A server that must be as good afterwards as it was before."""
    yield _server
    assert_unharmed(_server)


def assert_unharmed(server):
    with Wire(server) as wire:
        assert wire.ask(get("/readyz")).status == 200
        deadline = time.monotonic() + 20
        # As many images as there are permits: answered only when every permit has come back.
        while (status := wire.ask(full()).status) == 429 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert status == 200
        metrics = parse_metrics(wire.ask(get("/metrics")).body.decode())
    assert balance(metrics) == 0
    assert sum_of(metrics, "dvt_queue_depth") == 0
    assert sum_of(metrics, "dvt_front_end_deaths_total") == 0


def full():
    part = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n%s\r\n' % png()
    return request(part * MAX_IMAGES + b"--x--\r\n", "Content-Type: multipart/form-data; boundary=x")
