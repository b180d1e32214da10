"""What holds of the page as a whole: what it loads, what it weighs, and who can use it."""

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import visit
from playwright.sync_api import expect

VIEWS = ("try", "tune", "watch")
MAX_WEIGHT_BYTES = 300_000


def _use(page, view: str) -> None:
    """Do what brings everything of a view onto the screen."""
    if view == "try":
        page.locator("[data-sample=easy]").click()
        page.get_by_role("button", name="What would the next stages have said?").click()
        expect(page.locator("#full-walk-note")).not_to_be_empty()
    elif view == "tune":
        page.locator("#curve-card summary").click()
        page.get_by_label("Leave at 2x2 when at least so sure, as a number").fill("0.5")
        expect(page.locator("#expected tbody tr")).to_have_count(2)
    else:
        expect(page.locator("#charts .words").first).to_contain_text("Now")


def _tab_to(page, target) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(15):
        if target.evaluate("(each) => each === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not lead to {target}")


@pytest.mark.parametrize("view", VIEWS)
def test_page_is_accessible_in_both_schemes_and_fits_a_narrow_screen(look, view):
    page = look(view, width=390).page
    _use(page, view)
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    page.set_viewport_size({"width": 1280, "height": 800})
    for color_scheme in ("light", "dark"):
        page.emulate_media(color_scheme=color_scheme)
        violations = Axe().run(page).response["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []


def test_page_weighs_little_asks_no_other_host_and_has_nothing_to_complain_of(browser, server):
    context = browser.new_context(base_url=str(server.base_url))  # that has none of the files yet
    visited = visit(context)
    visited.open("try")
    for view in VIEWS:
        visited.page.locator(f"nav a[href='#{view}']").click()
        _use(visited.page, view)

    assert 50_000 < visited.weight < MAX_WEIGHT_BYTES
    assert visited.hosts == {urlsplit(str(server.base_url)).netloc}
    assert (visited.failed, visited.complaints) == ([], [])
    context.close()


def test_page_can_be_used_with_the_keyboard_alone(look, server):
    before = server.get("/config").json()["version"]
    page = look("try").page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    _tab_to(page, page.get_by_role("link", name="Tune"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tune the cascade")).to_be_visible()
    slider = page.get_by_label("Leave at 2x2 when at least so sure", exact=True)
    _tab_to(page, slider)
    page.keyboard.press("ArrowLeft")
    apply = page.get_by_role("button", name="Apply")
    expect(apply).to_be_enabled()
    _tab_to(page, apply)
    page.keyboard.press("Enter")
    expect(page.locator("#tune-done")).to_be_visible()
    expect(page.locator("#undo")).to_be_focused()

    assert server.get("/config").json()["version"] == before + 1


def test_page_service_that_does_not_answer_is_explained(look, server):
    page = look("try").page
    page.route("**/models", lambda route: route.fulfill(status=503, json={"detail": "the service is starting"}))
    page.reload()

    expect(page.locator("#start-problem")).to_contain_text("The console could not start: the service is starting")
