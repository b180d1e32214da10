"""The repository's nginx and HAProxy configurations in front of replicas of the test."""

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from replicas import ROOT, free_port, status_of
from waiting import PATIENCE_S, eventually

BALANCERS = ("nginx", "haproxy")
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
"""Where the replicas are: one port on three addresses, as of three containers."""

NGINX_CONF = ROOT / "docker" / "nginx" / "nginx.conf"
HAPROXY_CFG = ROOT / "docker" / "haproxy" / "haproxy.cfg"
_NGINX_RESOLVES = (1, 27, 3)

WITHOUT_RETRY = {
    "nginx": {"proxy_next_upstream error timeout http_503 non_idempotent;": "proxy_next_upstream off;"},
    "haproxy": {"retry-on conn-failure empty-response 503\n": "retry-on none\n"},
}
"""What to replace in a balancer's configuration so that it sends every classification once."""


def binary(name: str) -> str:
    """The path of a balancer's binary; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def nginx_resolves() -> bool:
    """Whether this nginx can follow a name; an older one gets the addresses instead."""
    shown = subprocess.run([binary("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", shown)
    assert found, shown
    return tuple(map(int, found.groups())) >= _NGINX_RESOLVES


def rendered(template: Path, changes: Mapping[str, str]) -> str:
    """A configuration with some of its text replaced; each must be in it, so that none goes unnoticed."""
    text = template.read_text()
    for old, new in changes.items():
        assert old in text, f"{template.name} has no {old!r}"
        text = text.replace(old, new)
    return text


def write_config(
    name: str, folder: Path, *, listen: int, hosts: Sequence[str], port: int, dns: int, changes: Mapping[str, str]
) -> Path:
    """The configuration of a balancer that listens on a port of loopback and balances `hosts`."""
    if name == "haproxy":
        addresses = {
            "bind :8080": f"bind 127.0.0.1:{listen}",
            "127.0.0.11:53": f"127.0.0.1:{dns}",
            "dvt:8000": f"dvt:{port}",
        }
        path = folder / "haproxy.cfg"
        path.write_text(rendered(HAPROXY_CFG, {**addresses, **changes}))
        return path
    addresses = {
        "listen 8080": f"listen 127.0.0.1:{listen}",
        "/tmp/": f"{folder}/",
        "resolver 127.0.0.11": f"resolver 127.0.0.1:{dns}",
        "dvt:8000": f"dvt:{port}",
    }
    if not nginx_resolves():
        options = "max_fails=1 fail_timeout=2s;"
        named = f"server dvt:{port} resolve {options}"
        addresses[named] = "\n".join(f"server {host}:{port} {options}" for host in hosts)
    path = folder / "nginx.conf"
    path.write_text(rendered(NGINX_CONF, {**addresses, **changes}))
    return path


def check_command(name: str, config: Path) -> list[str]:
    """What asks a balancer for its verdict on a configuration."""
    return [binary(name), "-t", "-c", str(config)] if name == "nginx" else [binary(name), "-c", "-f", str(config)]


@contextmanager
def balancer(
    name: str, folder: Path, hosts: Sequence[str], port: int, changes: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a balancer in front of these hosts' replicas; yields its URL."""
    folder.mkdir()
    listen = free_port("127.0.0.1")
    with name_server(hosts) as dns:
        config = write_config(name, folder, listen=listen, hosts=hosts, port=port, dns=dns, changes=changes or {})
        command = [binary(name), "-c", str(config), "-g", "daemon off;"]
        if name == "haproxy":
            command = [binary(name), "-db", "-f", str(config)]
        log = folder / "log"
        with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                # The balancer's own answer: it says nothing about the replicas.
                eventually(lambda: status_of("127.0.0.1", listen, "/metrics") == 404, log.read_text)
                yield f"http://127.0.0.1:{listen}"
            finally:
                process.terminate()
                process.wait(PATIENCE_S)


def until_it_has_replicas(url: str) -> None:
    """Wait until a balancer has resolved the name and found somebody ready."""
    address = urlsplit(url)
    eventually(lambda: status_of(str(address.hostname), address.port or 80, "/readyz") == 200)


@contextmanager
def name_server(hosts: Sequence[str]) -> Iterator[int]:
    """A DNS server on loopback that has these addresses for every name; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_serve_names, args=(server, hosts), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"", server.getsockname())
            thread.join(PATIENCE_S)


def _serve_names(server: socket.socket, hosts: Sequence[str]) -> None:
    while True:
        query, client = server.recvfrom(4096)
        if not query:
            return
        server.sendto(_dns_answer(query, hosts), client)


def _dns_answer(query: bytes, hosts: Sequence[str]) -> bytes:
    """An answer (RFC 1035) with an A record per host; none to a question about anything else."""
    end = query.index(b"\0", 12) + 5  # the name, its type and its class
    asks_for_a = query[end - 4 : end - 2] == b"\0\1"
    # Each names the question's name, by its place, then type A, class IN, 1 s to live and 4 bytes of address.
    records = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(host) for host in hosts if asks_for_a]
    flags_and_counts = b"\x85\x80\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
    return query[:2] + flags_and_counts + query[12:end] + b"".join(records)
