"""The image is built and run as a deployer would; minutes long, so only on request: `make test-image`."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker_engine import BASE_IMAGE, DockerEngine, make_base_image, missing, pip_build_arguments, running_engine

ROOT = Path(__file__).parents[2]
TURTLE = (ROOT / "tests/data/turtle.jpg").read_bytes()
# As tight as docker/README.md says it may be.
LOCKED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
READY_S = 120
# It had 1,270 MB with the CPU build of torch 2.13; that of CUDA has several times as many.
MAX_MB = 1600

pytestmark = [
    pytest.mark.skipif(os.environ.get("IMAGE_TESTS") != "1", reason="builds an image: on request, by make test-image"),
    pytest.mark.skipif(missing() is not None, reason=f"an engine of our own: {missing()}"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with running_engine() as engine:
        make_base_image(engine)
        with pip_build_arguments() as arguments:
            engine.run(
                "build", "--network=host", f"--build-arg=BASE_IMAGE={BASE_IMAGE}", *arguments, "-t=dvt", str(ROOT)
            )
        yield engine


@pytest.fixture(scope="module")
def url(engine: DockerEngine) -> str:
    """Where the container `dvt` answers, once its HEALTHCHECK says so."""
    return start(engine, "dvt")


def start(engine: DockerEngine, name: str, *options: str) -> str:
    """Start a container that may write nowhere but /tmp, and wait until it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limits = ("--network=host", "--memory=3g", f"--env=DVT_HTTP_PORT={port}")
    engine.run("run", "--detach", f"--name={name}", *limits, *LOCKED, *options, "dvt")
    deadline = time.monotonic() + READY_S
    while (health := inspect(engine, name, ".State.Health")["Status"]) == "starting" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert health == "healthy", engine.run("logs", name).stderr
    return f"http://127.0.0.1:{port}"


def inspect(engine: DockerEngine, name: str, field: str):
    return json.loads(engine.ask("inspect", "--format", f"{{{{json {field}}}}}", name))


def classify(url: str) -> httpx.Response:
    return httpx.post(f"{url}/classify", content=TURTLE, headers={"Content-Type": "image/jpeg"}, timeout=30)


def test_image_has_neither_pip_nor_settings_of_the_build(engine):
    assert engine.run("run", "--rm", "--entrypoint=python", "dvt", "-c", "import pip", check=False).returncode == 1
    assert (
        engine.run("run", "--rm", "--entrypoint=sh", "dvt", "-c", "command -v pip pip3 gcc cc", check=False).stdout
        == ""
    )
    history = engine.ask("history", "--no-trunc", "dvt")
    assert "PIP_" not in history + str(inspect(engine, "dvt", ".Config.Env"))


def test_image_is_no_larger_than_its_parts_explain(engine):
    size_mb = inspect(engine, "dvt", ".Size") / 1e6
    print(f"the image has {size_mb:.0f} MB")
    assert size_mb < MAX_MB


def test_container_locked_down_classifies(url):
    answer = classify(url)
    assert (answer.status_code, answer.json()["label"]) == (200, "hawksbill")


def test_container_serves_the_console_with_all_its_files(url):
    static = ROOT / "service/http/console/static"
    for path in (path for path in static.rglob("*") if path.is_file()):
        assert httpx.get(f"{url}/console/{path.relative_to(static)}").content == path.read_bytes()
    assert httpx.get(f"{url}/console").content == (static / "index.html").read_bytes()


@pytest.mark.parametrize("limit", ["--cpus=1", "--cpuset-cpus=0"])
def test_container_with_a_limit_on_cpus_uses_no_more(engine, limit):
    ask = ("--entrypoint=python", "dvt", "-c", "from service.engine.cores import usable_cores; print(usable_cores())")

    assert engine.ask("run", "--rm", limit, *ask) == "1"


def test_container_runs_as_a_user_who_can_write_nothing(engine, url):
    assert engine.ask("exec", "dvt", "id", "-u") == "10001"
    for folder in ("/", "/opt/dvt", "/var/lib/dvt"):
        assert engine.run("exec", "dvt", "touch", f"{folder}/file", check=False).returncode != 0


def test_container_with_mounted_weights_serves_them(engine, tmp_path):
    shutil.copytree(ROOT / "weights/zoo/dvt-photos", tmp_path / "mine")
    tmp_path.chmod(0o755)
    mounted = start(engine, "mounted", f"--volume={tmp_path}:/models:ro", "--env=DVT_MODEL=/models/mine")
    assert classify(mounted).json()["label"] == "hawksbill"


def test_container_with_a_volume_keeps_its_configuration(engine):
    volume = "--volume=dvt-state:/var/lib/dvt"
    first = start(engine, "first", volume, "--env=DVT_TRUST_LOOPBACK=true")
    changed = httpx.patch(f"{first}/config", json={"thresholds": [0.5, 0.25, 0.125]})
    assert changed.status_code == 200, changed.text
    engine.run("rm", "--force", "first")

    kept = httpx.get(f"{start(engine, 'second', volume)}/config").json()
    assert kept["thresholds"] == [0.5, 0.25, 0.125]


def test_container_sigterm_ends_with_code_0(engine, url):
    engine.run("stop", "--time=60", "dvt")
    assert inspect(engine, "dvt", ".State.ExitCode") == 0
    assert not inspect(engine, "dvt", ".State.OOMKilled")
