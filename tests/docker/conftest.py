"""Three replicas, as real processes at one port of three addresses."""

from collections.abc import Iterator

import pytest
from balancers import BALANCERS, HOSTS, binary
from replicas import ReplicaProcess, free_port
from tiny_model import save_tiny_model

# Forms of a replica: an engine process with a front end, and everything in one process.
HTTP_WORKERS = ("1", "0", "0")
SETTINGS = {
    "DVT_MAX_INFLIGHT": "32",
    "DVT_MAX_BODY_BYTES": str(2**20),
    # Longer than HAProxy needs to see that a replica is no longer ready.
    "DVT_DRAIN_DELAY_S": "1.5",
}


@pytest.fixture(scope="package")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ReplicaProcess]]:
    for name in BALANCERS:
        binary(name)
    folder = tmp_path_factory.mktemp("replicas")
    model, port = save_tiny_model(folder / "tiny"), free_port(*HOSTS)
    started = [
        ReplicaProcess(
            host, port, folder / f"log-{host}", {**SETTINGS, "DVT_MODEL": model, "DVT_HTTP_WORKERS": workers}
        )
        for host, workers in zip(HOSTS, HTTP_WORKERS, strict=True)
    ]
    try:
        for replica in started:
            replica.start()
        for replica in started:
            replica.until_status("/readyz", 200)
        yield started
    finally:
        for replica in started:
            replica.kill()
