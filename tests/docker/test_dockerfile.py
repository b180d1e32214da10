"""The Dockerfile, and what it puts into the image."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from deployment import ROOT, verdict

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def host() -> str:
    return "127.0.0.1"


@pytest.fixture
def answering(host) -> Iterator[ThreadingHTTPServer]:
    """A server that answers /readyz with its `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class HealthServer(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = HealthServer((host, 0), Handler)
    server.status = 200
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def healthcheck(port: int, **settings: str) -> int:
    """The exit code of the HEALTHCHECK's own command, run here."""
    command = re.search(r'HEALTHCHECK[^"]*CMD \["python", (.*), "(/[^"]*)"\]', DOCKERFILE)
    assert command
    options = [option.strip('"') for option in command[1].split(", ")]
    copied = re.search(rf"^COPY (\S+) {re.escape(command[2])}$", DOCKERFILE, flags=re.MULTILINE)
    assert copied
    environment = {**os.environ, "DVT_HTTP_PORT": str(port), **settings}
    return subprocess.run([sys.executable, *options, str(ROOT / copied[1])], env=environment, check=False).returncode


def test_hadolint_finds_nothing() -> None:
    verdict("hadolint", ROOT / "Dockerfile")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_healthcheck_says_what_readyz_says(answering, status, code):
    answering.status = status
    assert healthcheck(answering.server_address[1]) == code


def test_healthcheck_where_nothing_listens_fails(answering):
    answering.server_close()
    assert healthcheck(answering.server_address[1]) == 1


@pytest.mark.parametrize(
    ("host", "setting"),
    [
        *(("127.0.0.1", setting) for setting in ("0.0.0.0", "", "localhost")),
        ("127.0.0.2", "127.0.0.2"),
        *(("::1", setting) for setting in ("::1", "[::1]", "::", "[::]")),
    ],
)
def test_healthcheck_asks_where_the_server_listens(answering, setting):
    assert healthcheck(answering.server_address[1], DVT_HTTP_HOST=setting) == 0


def test_healthcheck_reads_the_file_of_settings_behind_the_environment(answering, tmp_path):
    port = answering.server_address[1]
    file = tmp_path / "dvt.toml"
    file.write_text(f'http_port = {port}\nhttp_host = "127.0.0.1"\n')
    assert healthcheck("", DVT_HTTP_HOST="", DVT_CONFIG_FILE=str(file)) == 0
    assert healthcheck(1, DVT_HTTP_HOST="", DVT_CONFIG_FILE=str(file)) == 1


@pytest.mark.parametrize("port", ["x", "70000"])
def test_healthcheck_with_settings_that_make_no_sense_fails_with_a_line(port, capfd):
    assert healthcheck(port) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_dockerfile_copies_only_what_dockerignore_lets_through():
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_dockerfile_ends_with_a_user_by_number_and_the_server_as_first_process():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1] == "10001:10001"
    assert 'ENTRYPOINT ["dvt"]' in DOCKERFILE
    assert "# syntax=" not in DOCKERFILE
