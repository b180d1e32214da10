"""Takes the README's pictures of the console: `make screenshots`.

A real server with the shipped weights, a minute of load from a few clients, and each view in light and dark, on a
desk and on a phone.
"""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, product
from pathlib import Path

import httpx
from browsing import chromium, visit
from PIL import Image
from playwright.sync_api import Page
from rich.progress import track

from service.capacity.child import SERVE, served

CONSOLE = Path(__file__).parents[2] / "service/http/console"
SCHEMES = ("light", "dark")
WIDTHS_PX = (1280, 390)
LOAD_S = 60
CLIENTS = 12
COLOURS = 256
"""Enough for such a screen, and a third of the bytes, which the repository keeps for ever."""


@contextmanager
def load(url: str) -> Iterator[None]:
    """Clients that come one after the other and classify the samples."""
    stop = threading.Event()
    samples = [path.read_bytes() for path in sorted((CONSOLE / "static/samples").iterdir())]

    def ask(place: int) -> None:
        if stop.wait(place * LOAD_S / CLIENTS / 2):
            return
        with httpx.Client(base_url=url) as client:
            for sample in cycle(samples[place % 3 :] + samples[: place % 3]):
                if stop.wait(0.01):
                    return
                client.post("/classify", content=sample)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def show_walk(page: Page) -> None:
    page.locator("[data-sample=hardest]").click()
    page.locator(".step").first.wait_for()


def show_proposal(page: Page) -> None:
    page.get_by_label("Budget", exact=True).check()
    page.get_by_label("Mean MACs per image, at most, as a number").fill("0.22")
    page.locator("#expected tbody tr").nth(1).wait_for()


def save(page: Page, view: str, scheme: str, width: int) -> None:
    """Write one picture, at most as long as a desk's screen is wide."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    cut = picture.crop((0, 0, picture.width, min(picture.height, max(WIDTHS_PX))))
    cut.quantize(COLOURS).save(CONSOLE / f"screenshots/{view}-{scheme}-{width}.png", optimize=True)


def main() -> None:
    """Take all pictures."""
    (CONSOLE / "screenshots").mkdir(exist_ok=True)
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        server = stack.enter_context(served(SERVE))
        url = f"http://{server.host}:{server.port}"
        pages = {}
        for scheme, width in product(SCHEMES, WIDTHS_PX):
            context = browser.new_context(
                base_url=url, color_scheme=scheme, viewport={"width": width, "height": 800}, locale="en-GB"
            )
            opened = visit(context)
            opened.open("watch")
            pages[scheme, width] = opened.page
        with load(url):
            for _ in track(range(LOAD_S), "a minute of load"):
                time.sleep(1)
                pages["light", 1280].wait_for_timeout(1)  # lets the browser's messages through
            for (scheme, width), page in pages.items():
                save(page, "watch", scheme, width)
        for (scheme, width), page in pages.items():
            for view, show in (("try", show_walk), ("tune", show_proposal)):
                page.locator(f"nav a[href='#{view}']").click()
                show(page)
                save(page, view, scheme, width)


if __name__ == "__main__":
    main()
