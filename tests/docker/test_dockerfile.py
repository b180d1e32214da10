"""The Dockerfile, and what it puts into the image."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from deployment import ROOT, verdict

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def host() -> str:
    return "127.0.0.1"


@pytest.fixture
def answering(host: str) -> Iterator[HTTPServer]:
    """A server that answers /readyz with its `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class HealthServer(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with HealthServer((host, 0), Handler) as server:
        server.status = 200
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def healthcheck(port: object, **settings: str) -> int:
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


@pytest.mark.parametrize(
    ("host", "setting"),
    [("127.0.0.1", "0.0.0.0"), ("127.0.0.1", ""), ("127.0.0.2", "127.0.0.2"), ("::1", "::1"), ("::1", "[::]")],
)
def test_healthcheck_asks_where_the_server_listens(answering, setting):
    assert healthcheck(answering.server_address[1], DVT_HTTP_HOST=setting) == 0


def test_healthcheck_service_not_ready_or_gone_fails(answering):
    answering.status = 503
    assert healthcheck(answering.server_address[1]) == 1
    answering.server_close()
    assert healthcheck(answering.server_address[1]) == 1


def test_healthcheck_reads_the_file_of_settings_behind_the_environment(answering, tmp_path):
    port = answering.server_address[1]
    file = tmp_path / "dvt.toml"
    file.write_text(f'http_port = {port}\nhttp_host = "127.0.0.1"\n')
    # What Kubernetes sets for a service named dvt-http.
    assert healthcheck("tcp://10.0.0.1:80", DVT_HTTP_HOST="", DVT_CONFIG_FILE=str(file)) == 0
    assert healthcheck(1, DVT_HTTP_HOST="", DVT_CONFIG_FILE=str(file)) == 1


def test_healthcheck_with_settings_that_make_no_sense_fails_with_a_line(capfd):
    assert healthcheck(70_000) == 1
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
