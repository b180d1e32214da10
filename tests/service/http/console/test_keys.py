"""Keys asked for when they are needed, wrong ones explained, and two who tune at the same time."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

HARDEST = (Path(__file__).parents[4] / "service/http/console/static/samples/hardest.jpg").read_bytes()
API, ALICE, BOB = "the-shop", "open-sesame", "abracadabra"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def server(start_server):
    with start_server(DVT_API_KEY=f"shop:{API}", DVT_ADMIN_KEY=f"alice:{ALICE},bob:{BOB}") as client:
        yield client


def _config(server) -> dict:
    return server.get("/config").json()


def _change(server, key: str, thresholds: object) -> dict:
    headers = {**MERGE, "authorization": f"Bearer {key}"}
    return server.patch("/config", json={"thresholds": thresholds}, headers=headers).raise_for_status().json()


def _give(page, key: str) -> None:
    page.locator("#key").fill(key)
    page.get_by_role("button", name="Go on").click()


def test_keys_wrong_api_key_is_explained_and_the_right_one_is_asked_for_once(look, server):
    page = look("try").page
    page.locator("[data-sample=easy]").click()
    expect(page.locator("#key-words")).to_contain_text("Classifying needs an API key")
    _give(page, "wrong-ключ")
    expect(page.get_by_role("heading", name="This key was refused")).to_be_visible()
    expect(page.locator("#key-words")).to_contain_text("this one is wrong")
    _give(page, API)
    expect(page.locator("#label")).not_to_be_empty()

    bearer = {"authorization": f"Bearer {API}"}
    grid = server.post("/classify", content=HARDEST, headers=bearer).raise_for_status().json()["exit"]["grid"]
    assert grid > 2  # where the first sample leaves
    page.locator("[data-sample=hardest]").click()
    expect(page.locator("#left")).to_contain_text(f"{grid}x{grid}")
    expect(page.locator("#key-dialog")).to_be_hidden()


def test_keys_dialog_that_is_cancelled_leaves_the_reason(look):
    for way in ("button", "escape"):
        page = look("try").page
        page.locator("[data-sample=easy]").click()
        expect(page.locator("#key")).to_be_focused()
        if way == "button":
            page.get_by_role("button", name="Cancel").click()
        else:
            page.keyboard.press("Escape")
        expect(page.locator("#try-problem")).to_contain_text("classifying needs an API key")


def test_keys_wrong_admin_key_changes_nothing_and_the_right_one_is_not_kept_by_the_browser(look, server):
    before = _config(server)
    page = look("tune").page
    page.get_by_label("Leave at 2x2 when at least so sure, as a number").fill("0.5")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#key-words")).to_contain_text("needs the admin key")
    _give(page, API)
    expect(page.locator("#key-words")).to_contain_text("this one is wrong")
    assert _config(server) == before
    _give(page, ALICE)
    expect(page.locator("#tune-done")).to_contain_text("is in force")

    assert _config(server)["thresholds"][0] == 0.5
    assert server.get("/config/history").json()["versions"][0]["changed_by"] == "alice"
    kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href])")
    assert ALICE not in kept
    assert page.locator("#key").input_value() == ""


@pytest.mark.parametrize(("button", "winner"), [("Keep version", "bob"), ("Apply mine over it", "alice")])
def test_keys_conflict_names_who_was_faster_and_lets_one_choose(look, server, button, winner):
    _change(server, ALICE, [0.9, 0.8, 0.5])
    page = look("tune").page
    page.get_by_label("Leave at 2x2 when at least so sure, as a number").fill("0.3")
    expect(page.get_by_role("button", name="Apply")).to_be_enabled()
    theirs = _change(server, BOB, [0.7, 0.6, 0.5])
    page.get_by_role("button", name="Apply").click()
    _give(page, ALICE)
    conflict = page.locator("#conflict")
    expect(conflict).to_contain_text(f"You saw version {theirs['version'] - 1}")
    expect(conflict).to_contain_text(f"bob put version {theirs['version']} into force (thresholds 0.700, 0.600, 0.500)")
    assert _config(server)["thresholds"] == [0.7, 0.6, 0.5]

    conflict.get_by_role("button", name=button).click()
    expect(conflict).to_be_hidden()
    newest = server.get("/config/history").json()["versions"][0]
    assert (newest["changed_by"], newest["thresholds"][0]) == (winner, 0.7 if winner == "bob" else 0.3)
