"""A real server with the shipped weights, and pages that look at it."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from browsing import Visit, chromium, visit
from playwright.sync_api import Browser, BrowserContext

from service.capacity.child import SERVE, served

ADMIN_KEYS = {"DVT_ADMIN_KEY": "alice:open-sesame,bob:abracadabra"}


# Of each module: where a browser of this library lives, no test of the same thread can have an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser, server: httpx.Client) -> Iterator[BrowserContext]:
    """What all pages of a module share, which saves loading the same files again."""
    with browser.new_context(base_url=str(server.base_url)) as context:
        yield context


@pytest.fixture(scope="module")
def server(browser: Browser, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the module's server, which has the module's `ENVIRONMENT`."""
    environment = {"DVT_HTTP_WORKERS": "0", **getattr(request.module, "ENVIRONMENT", {})}
    with served(SERVE, environment) as child, httpx.Client(base_url=f"http://{child.host}:{child.port}") as client:
        yield client


@pytest.fixture
def look(context: BrowserContext) -> Iterator[Callable[..., Visit]]:
    """Opens the console on a page of its own: `look("tune", color_scheme="dark", width=390)`.

    Whatever a test does there, the page is not to run into an error of its own.
    """
    visits = []

    def open_console(view: str = "try", *, color_scheme: str = "light", width: int = 1280) -> Visit:
        visited = visit(context)
        visits.append(visited)
        visited.page.emulate_media(color_scheme=color_scheme)
        visited.page.set_viewport_size({"width": width, "height": 800})
        visited.open(view)
        return visited

    yield open_console
    complaints = [visited.complaints for visited in visits]
    for visited in visits:
        visited.page.close()
    assert complaints == [[] for _ in visits]
