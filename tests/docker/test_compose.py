"""The compose file: what it starts is pinned, confined, limited and reachable only where it says."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import DEPLOYMENT, verdict
from redis import Redis
from redis.exceptions import NoPermissionError
from waiting import eventually

FILE = DEPLOYMENT / "compose.yaml"
OWN = "dvt"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]

each_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of secrets, as the script makes it."""
    folder = tmp_path_factory.mktemp("docker")
    script = shutil.copy(DEPLOYMENT / "make-secrets.sh", folder)
    subprocess.run([script], check=True, capture_output=True)
    return folder / "secrets"


def test_compose_accepts_the_file_and_its_defaults():
    resolved = json.loads(verdict("docker-compose", "--file", FILE, "config", "--format", "json"))
    assert set(resolved["services"]) == set(SERVICES)
    assert resolved["services"][OWN]["deploy"]["replicas"] == 3


@each_service
def test_service_is_confined_limited_pinned_and_checked(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    # The healthcheck of our own is in the image.
    assert ("healthcheck" in service) == (name != OWN)
    assert all(needed == {"condition": "service_healthy"} for needed in service.get("depends_on", {}).values())
    assert name == OWN or re.fullmatch(r"[\w./-]+:(v?\d+\.\d+\.\d+(-\w+)?)", service["image"])
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert (DEPLOYMENT / source).exists(), f"{source} for {target}"
            assert mode == ["ro"]


def test_ports_only_the_balancer_and_grafana_on_loopback_are_published():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"balancer": ["${PUBLISH:-127.0.0.1:8080}:8080"], "grafana": ["127.0.0.1:3000:3000"]}


def test_store_is_reached_by_the_replicas_only():
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {OWN, "redis"}
    assert SERVICES[OWN]["environment"]["DVT_CONFIG_STORE_FILE"] == "/run/secrets/config_store"


def test_replica_has_time_to_drain():
    replica = SERVICES[OWN]
    drain_s = sum(float(replica["environment"][f"DVT_DRAIN_{part}_S"]) for part in ("DELAY", "TIMEOUT"))
    assert int(replica["stop_grace_period"].removesuffix("s")) > drain_s + 5


def test_secrets_each_are_made_once_and_used(secrets):
    declared = {name: entry["file"] for name, entry in yaml.safe_load(FILE.read_text())["secrets"].items()}
    assert declared == {name: f"secrets/{name}" for name in declared}
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(declared)
    assert set(declared) <= {file.name for file in secrets.iterdir()}
    assert secrets.stat().st_mode & 0o777 == 0o700
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    subprocess.run([secrets.parent / "make-secrets.sh"], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before
    assert len(set(before.values())) == len(before)


def test_redis_users_may_ping_and_the_service_may_change_its_own_keys(secrets, tmp_path):
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    # Elsewhere the path of the socket may be too long.
    socket = Path(os.path.relpath(tmp_path)) / "s"
    options = ["--port", "0", "--unixsocket", "s", "--aclfile", str(secrets / "redis_users"), "--dir", str(tmp_path)]
    server = subprocess.Popen(["redis-server", *options], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists, "redis-server did not start")
        with Redis(unix_socket_path=str(socket)) as stranger:
            assert stranger.ping()
            for forbidden in (lambda: stranger.get("dvt:config:x"), stranger.flushall, stranger.dbsize):
                with pytest.raises(NoPermissionError):
                    forbidden()

        login = re.fullmatch(r"redis://(\w+):(\w+)@redis:6379/0\n", (secrets / "config_store").read_text())
        assert login
        with Redis(unix_socket_path=str(socket), username=login[1], password=login[2]) as service:
            with service.pipeline(transaction=True) as pipeline:
                pipeline.watch("dvt:config:x")
                assert pipeline.get("dvt:config:x") is None
                pipeline.multi()
                pipeline.set("dvt:config:x", "{}")
                assert pipeline.execute() == [True]
            for forbidden in (lambda: service.set("other", "1"), service.flushall, lambda: service.config_get("*")):
                with pytest.raises(NoPermissionError):
                    forbidden()
    finally:
        server.terminate()
        server.wait(10)
