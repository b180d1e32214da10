"""A Docker engine of the test's own, in a temporary folder, and a base image that needs no registry to pull from."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

BASE_IMAGE = "localhost/python:slim"
_BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_START_S = 60
_STOP_S = 60


@dataclass(frozen=True)
class DockerEngine:
    """A running engine and the client that talks to it."""

    client: str
    environment: dict[str, str]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker arguments…`."""
        done = subprocess.run([self.client, *arguments], env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"docker {shlex.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    def ask(self, *arguments: str) -> str:
        """What `docker arguments…` prints."""
        return self.run(*arguments).stdout.strip()


def missing() -> str | None:
    """What this machine lacks for an engine of our own, if anything."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root"
    lacking = [tool for tool in ("docker", "dockerd", "debootstrap", "apt-get", "tar") if not shutil.which(tool)]
    return f"needs {', '.join(lacking)}" if lacking else None


@contextmanager
def running_engine() -> Iterator[DockerEngine]:
    """An engine without bridge and firewall rules, whose containers use the host's network; gone without a trace."""
    # Not pytest's folder: the path of a socket has a limit of about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    address = f"unix://{folder}/socket"
    options = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "pid"}
    paths = [argument for option, name in options.items() for argument in (option, str(folder / name))]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--iptables=false", "--bridge=none", "--host", address, *paths], stdout=log, stderr=log
        )
    try:
        environment = {**os.environ, "DOCKER_HOST": address, "DOCKER_BUILDKIT": "1"}
        engine = DockerEngine(_client(environment, daemon, folder / "log"), environment)
        yield engine
        if containers := engine.ask("ps", "--all", "--quiet").split():
            engine.run("rm", "--force", "--volumes", *containers)
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_S)
        finally:
            daemon.kill()
            _unmount(folder)
            shutil.rmtree(folder)


def make_base_image(engine: DockerEngine) -> None:
    """What `python:…-slim` is, made of the packages of the Debian that this machine installs from."""
    mirror, suite = _apt_source()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        strap = ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", suite, str(root), mirror]
        done = subprocess.run(strap, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        if certificates := pip_settings().get("cert"):
            shutil.copy(certificates, root / "etc/ssl/certs/ca-certificates.crt")
        (root / "usr/bin/python").symlink_to("python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        left_out = ("--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists")
        pack = ["tar", "--directory", root, *left_out, "--create", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as archive:
            command = [engine.client, "import", "-", BASE_IMAGE]
            subprocess.run(command, stdin=archive.stdout, env=engine.environment, check=True, capture_output=True)


@contextmanager
def pip_build_arguments() -> Iterator[list[str]]:
    """Build arguments that let pip find in a build what it finds here; a folder of wheels is served meanwhile."""
    settings = pip_settings()
    names = ("index-url", "extra-index-url", "find-links")
    urls = {name: [url for url in settings.get(name, "").split() if "://" in url] for name in names}
    reachable = {name: [url for url in of_name if not url.startswith("file:")] for name, of_name in urls.items()}
    folders = [path for path in settings.get("find-links", "").split() if Path(path).is_dir()]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) for folder in folders]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
        reachable["find-links"].append(f"http://127.0.0.1:{server.server_address[1]}/")
    try:
        yield [
            argument
            for name, values in reachable.items()
            if values
            for argument in ("--build-arg", f"PIP_{name.upper().replace('-', '_')}={' '.join(values)}")
        ]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def pip_settings() -> dict[str, str]:
    """pip's settings here, by their plain names, whether from a file or the environment."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^[^=]*\.([\w-]+)='(.*)'$", listed.stdout, flags=re.MULTILINE)
    return dict(found)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _client(environment: dict[str, str], daemon: subprocess.Popen[bytes], log: Path) -> str:
    """The client that came with the engine: another one may want plugins to build that are not there."""
    folders = environment.get("PATH", "").split(os.pathsep)
    clients = [found for folder in folders if (found := shutil.which("docker", path=folder))]
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and daemon.poll() is None:
        for client in clients:
            ask = [client, "version", "--format", "{{.Client.Version}} {{.Server.Version}}"]
            answer = subprocess.run(ask, env=environment, capture_output=True, text=True).stdout.split()
            if len(answer) == 2 and (answer[0] == answer[1] or client == clients[-1]):
                return client
        time.sleep(0.1)
    raise AssertionError(f"dockerd did not start:\n{log.read_text()[-3000:]}")


def _apt_source() -> tuple[str, str]:
    """Mirror and suite of this machine's own Debian."""
    ask = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Identifier: Packages", "Origin: Debian"]
    listed = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    assert listed, "no Debian mirror is known; run `apt-get update`"
    return listed[0], listed[1].split("-")[0]


def _unmount(folder: Path) -> None:
    """Let go of what a killed daemon left mounted, the innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "--lazy", mount], check=True, capture_output=True)
