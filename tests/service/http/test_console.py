"""What the server says when it hands out the console's files."""

import re
import tomllib
from fnmatch import fnmatch
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "service/http/console/static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())


class Inline(HTMLParser):
    """Collects what a strict policy would refuse: styles, handlers and scripts inside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.found.append(tag)
        self.linked += [given[name] for name in ("src", "href") if name in given]


@pytest.mark.parametrize("path", ["/console", *(f"/console/{name}" for name in FILES)])
async def test_console_files_are_served_with_their_type_and_a_strict_policy(serving, path):
    response = await serving.client.get(path)

    name = path.removeprefix("/console").removeprefix("/") or "index.html"
    assert (response.status_code, response.content) == (200, (STATIC / name).read_bytes())
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert response.headers["content-type"].startswith(types.get(Path(name).suffix, ""))
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert policy["frame-ancestors"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_console_page_seen_before_is_not_sent_again(serving):
    first = await serving.client.get("/console")
    again = await serving.client.get("/console", headers={"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


async def test_console_with_a_slash_leads_to_the_page(serving):
    response = await serving.client.get("/console/")

    assert (response.status_code, response.headers["location"]) == (307, "../console")


@pytest.mark.parametrize("path", ["/console/none.js", "/console/../app.py", "/console/%2e%2e/routes.py", "/console/js"])
async def test_console_what_is_no_file_of_it_is_not_found(serving, path):
    response = await serving.client.get(path)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/console", "/console/js/main.js"])
async def test_console_takes_no_other_method(serving, path):
    response = await serving.client.post(path, content=b"x")

    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


def test_page_has_nothing_inline_and_links_only_to_itself():
    page = Inline()
    page.feed((STATIC / "index.html").read_text())

    assert page.found == []
    assert [link for link in page.linked if re.match(r"[a-z]+:|//", link)] == []
    assert {link.removeprefix("console/") for link in page.linked if link.startswith("console/")} <= set(FILES)


def test_vendored_files_are_those_named_with_their_licence():
    named = dict(re.findall(r"\| (\S+) \| ([0-9a-f]{64}) \|", (STATIC / "vendor/README.md").read_text()))

    assert {name: sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() for name in named} == named
    assert {path.name for path in (STATIC / "vendor").iterdir()} == {*named, "README.md", "uPlot.LICENSE"}
    assert "MIT" in (STATIC / "vendor/uPlot.LICENSE").read_text()


def test_files_are_all_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["service.http.console"]
    packed = {name for name in FILES for each in patterns if _matches(f"static/{name}", each)}

    assert packed == set(FILES)


def _matches(name: str, pattern: str) -> bool:
    # Unlike a shell's, fnmatch's star crosses folders.
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)
