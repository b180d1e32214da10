"""A real server with small limits, and the proof after each test that it has taken no harm."""

import pytest
from tiny_model import png, save_tiny_model
from waiting import eventually
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
PART = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n%s\r\n'


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
    as_many_as_permits = request(
        PART % png() * MAX_IMAGES + b"--x--\r\n", "Content-Type: multipart/form-data; boundary=x"
    )
    with Wire(_server) as wire:
        assert wire.ask(get("/readyz")).status == 200
        eventually(lambda: wire.ask(as_many_as_permits).status == 200, "permits are lost")
        metrics = parse_metrics(wire.ask(get("/metrics")).body.decode())
    assert balance(metrics) == 0
    assert sum_of(metrics, "dvt_queue_depth") == 0
    assert sum_of(metrics, "dvt_front_end_deaths_total") == 0
