from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

ROOT = Path(__file__).parents[4]
TURTLE = ROOT / "tests/data/turtle.jpg"
SAMPLES = ROOT / "service/http/console/static/samples"

TRANSFER = """async () => {
    const data = new DataTransfer();
    const picture = await (await fetch("console/samples/harder.jpg")).blob();
    data.items.add(new File([picture], "harder.jpg", { type: "image/jpeg" }));
    return data;
}"""
LINES_ACROSS = """(canvas) => {
    const row = canvas.getContext("2d").getImageData(0, 5, canvas.width, 1).data;
    let lines = 0;
    for (let x = 1; x < canvas.width; x++) if (row[4 * x] > 128 && row[4 * (x - 1)] <= 128) lines++;
    return lines;
}"""


def _encoded(image_format: str, colour: str = "black") -> dict[str, object]:
    buffer = BytesIO()
    Image.new("RGB", (90, 60), colour).save(buffer, image_format)
    return {"name": f"one.{image_format}", "mimeType": "application/octet-stream", "buffer": buffer.getvalue()}


def _answer(server, path: Path, **parameters) -> dict:
    return server.post("/classify", content=path.read_bytes(), params={"trace": True, **parameters}).json()


def _states(page) -> list[str]:
    return page.locator(".step").evaluate_all("(steps) => steps.map((step) => step.dataset.state)")


@pytest.mark.parametrize("name", ["easy", "hardest"])
def test_try_sample_shows_what_the_service_answers(look, server, name):
    answer = _answer(server, SAMPLES / f"{name}.jpg")
    page = look().page
    page.locator(f"[data-sample={name}]").click()

    expect(page.locator("#label")).to_have_text(answer["label"])
    left = answer["exit"]["stage"]
    assert _states(page) == ["passed"] * left + ["left"] + ["unused"] * (3 - left)
    expect(page.locator("#left")).to_contain_text(f"{answer['exit']['grid']}x{answer['exit']['grid']} tokens")
    expect(page.locator("#spent")).to_contain_text(f"{answer['compute']['fraction'] * 100:.1f} %")
    for said in answer["trace"]:
        step = page.locator(f".step[data-stage='{said['stage']}']")
        expect(step.locator(".said")).to_have_text(said["label"])
        expect(step.locator(".meter")).to_have_attribute("aria-valuenow", f"{said['confidence']:.3f}")
        if said["stage"] < left:
            expect(step.locator(".why")).to_contain_text(
                f"confidence {said['confidence']:.3f} is below the threshold {said['threshold']:.3f}"
            )


def test_try_chosen_file_is_classified_and_can_be_again(look, server):
    answer = _answer(server, TURTLE)
    page = look().page
    page.locator("#file").set_input_files(TURTLE)
    expect(page.locator("#label")).to_have_text(answer["label"])

    with page.expect_response("**/classify*") as again:
        page.get_by_role("button", name="Classify again").click()
    assert again.value.headers["x-dvt-macs"] == str(answer["compute"]["macs"])


def test_try_dropped_or_pasted_image_is_classified(look, server):
    answer = _answer(server, SAMPLES / "harder.jpg")
    for way in ("drop", "paste"):
        page = look().page
        data = page.evaluate_handle(TRANSFER)
        if way == "drop":
            page.dispatch_event("#drop", "drop", {"dataTransfer": data})
        else:
            page.evaluate(
                "(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", data
            )
        expect(page.locator("#label")).to_have_text(answer["label"])
        assert _states(page).index("left") == answer["exit"]["stage"]


def test_try_next_stages_say_what_a_whole_walk_says_and_the_exit_stays(look, server):
    whole = _answer(server, SAMPLES / "easy.jpg", min_stage=3)
    page = look().page
    page.locator("[data-sample=easy]").click()
    expect(page.locator(".step[data-state=left]")).to_have_count(1)
    before = _states(page).index("left")
    page.get_by_role("button", name="What would the next stages have said?").click()

    expect(page.locator(".step[data-state=asked]")).to_have_count(3 - before)
    assert _states(page).index("left") == before
    said = page.locator(".step .said").all_text_contents()
    assert said == [each["label"] for each in whole["trace"]]
    fraction = f"{whole['compute']['fraction'] * 100:.1f} % of a static ViT"
    expect(page.locator("#full-walk-note")).to_contain_text(fraction)


def test_try_stages_show_their_tokens_over_the_image(look, server):
    page = look().page
    page.locator("#file").set_input_files(_encoded("PNG"))
    expect(page.locator(".step")).to_have_count(4)

    grids = [stage["grid"] for stage in server.get("/models").json()["models"][0]["stages"]]
    lines = [canvas.evaluate(LINES_ACROSS) for canvas in page.locator(".step canvas").element_handles()]
    assert lines == [grid - 1 for grid in grids]


def test_try_image_the_browser_cannot_show_is_answered_all_the_same(look):
    page = look().page
    page.locator("#file").set_input_files(_encoded("TIFF"))

    expect(page.locator("#label")).not_to_be_empty()
    expect(page.locator("#drop")).to_contain_text("This browser cannot show this kind of image")
    expect(page.locator("#picture")).to_be_hidden()


def test_try_what_cannot_be_classified_is_explained_and_the_next_image_works(look):
    page = look().page
    problem = page.locator("#try-problem")
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"not an image"})
    expect(problem).to_contain_text("Not classified: not an image; accepted are JPEG")
    for unreachable in ("**/classify*", "**/samples/*"):
        page.locator("[data-sample=easy]").click()
        expect(page.locator("#label")).to_be_visible()
        expect(problem).to_be_hidden()
        page.route(unreachable, lambda route: route.abort())
        page.locator("[data-sample=hardest]").click()
        expect(problem).to_contain_text("Not classified: the service cannot be reached")
        page.unroute(unreachable)
