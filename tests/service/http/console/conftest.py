"""Real servers with the shipped weights, and pages that look at them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
from browsing import CHROMIUM, Visit, chromium, visit
from playwright.sync_api import Browser, BrowserContext

from service.capacity.child import SERVE, served

# Without the search for a type, and the warm-up of batches that no test sends.
QUICK = {"DVT_HTTP_WORKERS": "0", "DVT_DTYPE": "float32", "DVT_MAX_BATCH_SIZE": "4"}
MERGE = {"content-type": "application/merge-patch+json"}


StartServer = Callable[..., AbstractContextManager[httpx.Client]]


@contextmanager
def _server(**environment: str) -> Iterator[httpx.Client]:
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian's package)")
    with (
        served(SERVE, {**QUICK, **environment}) as child,
        httpx.Client(base_url=f"http://{child.host}:{child.port}") as client,
    ):
        yield client


@pytest.fixture(scope="session")
def start_server() -> StartServer:
    """Starts a server with a client: `with start_server(DVT_API_KEY="shop:hush") as client`."""
    return _server


@pytest.fixture(scope="session")
def open_server() -> Iterator[httpx.Client]:
    """A client of a server without keys."""
    with _server() as client:
        yield client


@pytest.fixture
def server(open_server: httpx.Client) -> httpx.Client:
    """The server without keys, with thresholds that are not the model's own."""
    open_server.patch("/config", json={"thresholds": [0.9, 0.8, 0.5]}, headers=MERGE).raise_for_status()
    return open_server


# Of each module: where a browser of this library lives, no test of the same thread can have an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """The context of all pages of a module, so that each file is loaded once."""
    with browser.new_context() as context:
        yield context


@pytest.fixture
def look(context: BrowserContext, server: httpx.Client) -> Iterator[Callable[..., Visit]]:
    """Opens the console on a page of its own: `look("tune", width=390)`.

    Whatever a test does there, the page is not to run into an error of its own.
    """
    visits = []

    def open_console(view: str = "try", *, width: int = 1280) -> Visit:
        visited = visit(context)
        visits.append(visited)
        visited.page.set_viewport_size({"width": width, "height": 800})
        visited.open(view, str(server.base_url).rstrip("/"))
        return visited

    yield open_console
    complaints = [visited.complaints for visited in visits]
    for visited in visits:
        visited.page.close()
    assert complaints == [[] for _ in visits]
