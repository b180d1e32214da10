"""What the server says when it hands out the console's files."""

import re
import tomllib
from fnmatch import fnmatch
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

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


async def test_console_files_are_served_with_their_type_and_a_strict_policy(serving):
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for name in ("", *FILES):
        response = await serving.client.get(f"/console/{name}".rstrip("/"))
        file = STATIC / (name or "index.html")
        assert (response.status_code, response.content) == (200, file.read_bytes())
        assert response.headers["content-type"].startswith(types.get(file.suffix, ""))
        policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
        assert response.headers["x-content-type-options"] == "nosniff"

        etag = {"if-none-match": response.headers["etag"]}
        again = await serving.client.get(f"/console/{name}".rstrip("/"), headers=etag)
        assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", "no-cache")


async def test_console_with_a_slash_leads_to_the_page(serving):
    response = await serving.client.get("/console/")

    assert (response.status_code, response.headers["location"]) == (307, "../console")


async def test_console_what_is_no_file_of_it_is_a_problem(serving):
    for method, path, status in (
        ("GET", "/console/none.js", 404),
        ("GET", "/console/../app.py", 404),
        ("GET", "/console/%2e%2e/routes.py", 404),
        ("GET", "/console/js", 404),
        ("POST", "/console", 405),
        ("POST", "/console/js/main.js", 405),
    ):
        response = await serving.client.request(method, path)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), path


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
