from browsing import visit
from playwright.sync_api import expect
from tiny_model import save_tiny_model

from weights.manifest import NamedOperatingPoint

MERGE = {"content-type": "application/merge-patch+json"}


def _config(server) -> dict:
    return server.get("/config").json()


def _proposal(page):
    return page.locator("#expected tbody tr").nth(1)


def _figures(expected: dict, baseline_macs: int) -> list[str]:
    return [
        f"{expected['accuracy'] * 100:.2f} %",
        f"{expected['mean_macs'] / 1e6:.1f} M",
        f"{expected['mean_macs'] / baseline_macs:.2f}x",
        ", ".join(f"{share * 100:.1f} %" for share in expected["exit_shares"]),
    ]


def _expect_proposal(page, server, wanted: dict) -> dict:
    simulated = server.post("/config/simulate", json=wanted).json()
    baseline_macs = server.get("/models").json()["models"][0]["baseline_macs"]
    for figure in _figures(simulated["expected"], baseline_macs):
        expect(_proposal(page)).to_contain_text(figure)
    return simulated


def test_tune_sliders_show_what_to_expect_and_change_nothing(look, server):
    config = _config(server)
    page = look("tune").page
    rows = page.locator("#expected tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(f"version {config['version']}")
    for figure in _figures(config["expected"], server.get("/models").json()["models"][0]["baseline_macs"]):
        expect(rows).to_contain_text(figure)
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()

    page.get_by_label("Leave at 2x2 when at least so sure", exact=True).focus()
    for key in ("PageDown", "PageDown", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    _expect_proposal(page, server, {"thresholds": [0.8, 0.8, 0.5]})

    box = page.get_by_label("Leave at 4x4 when at least so sure", exact=True).bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.79, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, middle, steps=25)
    page.mouse.up()
    ended = float(page.get_by_label("Leave at 4x4 when at least so sure, as a number").input_value())
    assert 0.2 < ended < 0.4
    _expect_proposal(page, server, {"thresholds": [0.8, ended, 0.5]})
    assert _config(server) == config


def test_tune_single_target_shows_the_thresholds_found_for_it(look, server):
    page = look("tune").page
    for mode, label, value, target in (
        ("Budget", "Mean MACs per image, at most", "0.22", {"fraction": 0.22}),
        ("Accuracy", "Accuracy, at least", "0.875", {"accuracy": 0.875}),
    ):
        page.get_by_label(mode, exact=True).check()
        expect(_proposal(page)).to_have_count(0)  # another way to say it begins anew
        expect(page.get_by_role("button", name="Apply")).to_be_disabled()
        page.get_by_label(f"{label}, as a number").fill(value)
        found = _expect_proposal(page, server, {"target": target})
        thresholds = [f"{each:.3f}" for each in found["thresholds"] if 0 < each <= 1]
        assert thresholds
        for threshold in thresholds:
            expect(_proposal(page)).to_contain_text(threshold)


def test_tune_proposal_that_cannot_be_is_explained_and_cannot_be_applied(look):
    page = look("tune").page
    number = page.get_by_label("Leave at 2x2 when at least so sure, as a number")
    number.fill("7")
    expect(_proposal(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()

    problem = {"detail": "target accuracy 0.99 cannot be met", "status": 422}
    page.route("**/config/simulate", lambda route: route.fulfill(status=422, json=problem))
    number.fill("0.3")
    expect(page.locator("#tune-problem")).to_contain_text("This cannot be: target accuracy 0.99 cannot be met")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()


def test_tune_apply_changes_the_next_classification_and_undo_takes_it_back(look, server):
    version = _config(server)["version"]
    page = look("try").page
    page.locator("[data-sample=easy]").click()
    expect(page.locator(".step[data-state=left] h3")).to_have_text("2x2 tokens")

    page.get_by_role("link", name="Tune").click()
    page.get_by_label("Leave at 2x2 when at least so sure, as a number").fill("1.01")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#tune-done")).to_contain_text(f"Applied. Version {version + 1} is in force")
    assert _config(server)["thresholds"] == [1.01, 0.8, 0.5]
    page.get_by_role("link", name="Try").click()
    page.get_by_role("button", name="Classify again").click()
    expect(page.locator(".step[data-state=left] h3")).not_to_have_text("2x2 tokens")

    page.get_by_role("link", name="Tune").click()
    page.get_by_role("button", name=f"Undo: back to version {version}").click()
    expect(page.locator("#tune-done")).to_contain_text(f"Undone. Version {version + 2} is in force")
    assert _config(server)["thresholds"] == [0.9, 0.8, 0.5]


def test_tune_undo_of_a_target_asks_for_the_target_again(look, server):
    server.patch("/config", json={"target": {"fraction": 0.3}}, headers=MERGE)
    server.patch("/config", json={"thresholds": 0.5}, headers=MERGE)
    page = look("tune").page
    expect(page.locator("#history")).to_contain_text("at most 0.3x a static ViT")
    page.locator("#undo").click()
    expect(page.locator("#tune-done")).to_contain_text("Undone")

    assert _config(server)["target"] == {"fraction": 0.3}


def test_tune_change_made_elsewhere_appears_and_the_version_before_can_be_proposed_again(look, server):
    page = look("tune").page
    changed = server.patch("/config", json={"thresholds": 0.6}, headers=MERGE).json()
    expect(page.locator("#expected tbody tr")).to_contain_text(f"version {changed['version']}")
    expect(page.get_by_label("Leave at 7x7 when at least so sure, as a number")).to_have_value("0.6")

    page.locator("#history tbody tr").nth(1).get_by_role("button").click()
    _expect_proposal(page, server, {"thresholds": [0.9, 0.8, 0.5]})
    expect(page.get_by_label("Leave at 2x2 when at least so sure, as a number")).to_have_value("0.9")


def test_tune_curve_is_drawn_and_a_click_on_it_proposes_a_budget(look, server):
    points = server.get("/config/curve").json()["points"]
    page = look("tune").page
    assert page.locator("#curve-table tbody tr").count() == len(points)
    plot = page.locator("#curve .u-over")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)

    budget = float(page.get_by_label("Mean MACs per image, at most, as a number").input_value())
    assert points[0]["mean_macs"] < budget * server.get("/config/curve").json()["baseline_macs"]
    _expect_proposal(page, server, {"target": {"fraction": budget}})


def test_tune_model_without_calibration_table_says_so_and_takes_thresholds_and_names(browser, start_server, tmp_path):
    thrifty = NamedOperatingPoint(name="thrifty", thresholds=(0.1, 0.2, 0.3), accuracy=0.5, mean_macs=1e6)
    model = save_tiny_model(tmp_path / "tiny", operating_points=(thrifty,))
    with start_server(DVT_MODEL=model) as client, browser.new_context(base_url=str(client.base_url)) as context:
        visited = visit(context)
        visited.open("tune")
        page = visited.page
        expect(page.locator("#curve-words")).to_contain_text("no calibration table")
        expect(page.get_by_label("Budget", exact=True)).to_be_hidden()
        page.get_by_label("Leave at 2x2 when at least so sure, as a number").fill("0.25")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#tune-done")).to_contain_text("Version 2 is in force")

        assert client.get("/config").json()["thresholds"][0] == 0.25
        page.get_by_label("By name", exact=True).check()
        page.get_by_label("Operating points of the model").select_option("thrifty")
        expect(_proposal(page)).to_contain_text("0.100, 0.200, 0.300")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#tune-done")).to_contain_text("Version 3 is in force")

        assert client.get("/config").json()["operating_point"] == "thrifty"
        assert visited.complaints == []
