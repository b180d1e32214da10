"""The console in Debian's Chromium, with everything noted that a page should not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS = 20_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian's package)")
    with sync_playwright() as playwright:
        expect.set_options(timeout=_PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page and what it did.

    Attributes:
        complaints: what the browser's console was told, failed requests apart.
        failed: `status path` of answers that were errors.
        hosts: to which requests went.
        weight: bytes of all bodies.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    weight: int = 0

    def open(self, view: str, base_url: str = "") -> None:
        """Go to one of the views, of the context's server or another, and wait until all of the console works."""
        self.page.goto(f"{base_url}/console#{view}")
        self.page.locator("#expected table").wait_for(state="attached")

    def note_message(self, message: ConsoleMessage) -> None:
        if not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"{message.type}: {message.text}")

    def note_response(self, response: Response) -> None:
        address = urlsplit(response.url)
        self.hosts.add(address.netloc)
        if response.status >= 400:
            self.failed.append(f"{response.status} {address.path}")
        else:
            self.weight += int(response.headers.get("content-length", 0))


def visit(context: BrowserContext) -> Visit:
    """A page of a context, watched."""
    visit = Visit(context.new_page())
    visit.page.set_default_timeout(_PATIENCE_MS)
    visit.page.on("console", visit.note_message)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("response", visit.note_response)
    return visit
