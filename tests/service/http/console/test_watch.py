import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

SAMPLE = (Path(__file__).parents[4] / "service/http/console/static/samples/easy.jpg").read_bytes()
READING = "(text) => import('/console/js/prometheus.js').then(({ reading }) => reading(text, 4, 100))"
BETWEEN = "([one, other]) => import('/console/js/prometheus.js').then(({ between }) => between(one, other))"
QUANTILE = """([bounds, counts, share]) => import('/console/js/prometheus.js').then(({ quantile }) =>
    quantile(counts.map((count, place) => ({ le: bounds[place] ?? Infinity, count })), share))"""


@contextmanager
def _load(server: httpx.Client, **parameters: object) -> Iterator[None]:
    """One client that classifies all the time."""
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.base_url) as client:
            while not stop.wait(0.01):
                client.post("/classify", content=SAMPLE, params=parameters).raise_for_status()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _saved(server: httpx.Client, **parameters: object) -> str:
    """What an answer to the sample spares of the baseline, in the page's words."""
    answer = server.post("/classify", content=SAMPLE, params=parameters).raise_for_status().json()
    return f"{100 * (1 - answer['compute']['fraction']):.1f} %"


def test_watch_charts_move_under_load(look, server):
    saved = _saved(server)
    page = look("watch").page
    words = page.locator("#charts .words")
    expect(words.nth(0)).to_contain_text("Now: 0.0 at 2x2")
    before = [chart.screenshot() for chart in page.locator("#charts .plot").all()]
    with _load(server):
        expect(words.nth(0)).not_to_contain_text("Now: 0.0 at 2x2")
        expect(words.nth(1)).to_contain_text("p99")
        expect(words.nth(2)).to_contain_text("1.0 at 2x2")
        expect(words.nth(3)).to_contain_text(saved)
        expect(page.locator("#tile-images")).not_to_have_text("0.0")
        expect(page.locator("#tile-exits")).to_have_text("100 / 0 / 0 / 0 %")
        expect(page.locator("#tile-saved")).to_have_text(saved)
        after = [chart.screenshot() for chart in page.locator("#charts .plot").all()]

    assert all(one != other for one, other in zip(before, after, strict=True))


def test_watch_cascade_that_costs_more_than_a_static_vit_shows_a_negative_saving(look, server):
    saved = _saved(server, min_stage=3)
    assert saved.startswith("-")
    page = look("watch").page
    expect(page.locator("#charts .words").nth(0)).to_contain_text("Now")
    with _load(server, min_stage=3):
        expect(page.locator("#tile-exits")).to_have_text("0 / 0 / 0 / 100 %")
        expect(page.locator("#tile-saved")).to_have_text(saved)


def test_watch_without_figures_says_why_until_they_come_back(look):
    page = look("watch").page
    problem = page.locator("#watch-problem")
    page.route("**/metrics", lambda route: route.abort())
    expect(problem).to_contain_text("No figures: the service cannot be reached")
    page.unroute("**/metrics")
    expect(problem).to_be_hidden()

    of_balancer = {"detail": "metrics are each replica's own; scrape the replicas", "status": 404}
    page.route("**/metrics", lambda route: route.fulfill(status=404, json=of_balancer))
    expect(problem).to_contain_text("metrics are each replica's own")


def test_figures_are_those_of_the_service_and_of_prometheus(look, server):
    page = look("watch").page
    for _ in range(3):
        server.post("/classify", content=SAMPLE, params={"min_stage": 1})
    text = server.get("/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    read = page.evaluate(READING, text)

    left_at_1 = [float(count) for name, count in samples.items() if "dvt_exits_total" in name and 'stage="1"' in name]
    assert read["exits"][1] == sum(left_at_1) >= 3
    assert read["macs"] == float(samples["dvt_macs_total"])
    assert read["baselineMacs"] == float(samples["dvt_baseline_macs_total"])
    assert read["batches"][0] == float(samples['dvt_batch_size_count{stage="0"}'])
    assert read["latency"][-1]["count"] == float(samples["dvt_request_duration_seconds_count"])

    restarted = {**read, "atS": 101, "batches": [count - 1 for count in read["batches"]]}
    assert page.evaluate(BETWEEN, [read, restarted]) is None
    assert page.evaluate(BETWEEN, [read, {**read, "atS": 101}])["imageRate"] == 0

    for counts, share, expected in (
        ([0, 10, 10, 10], 0.5, 1.5),  # half of the way through the bucket from 1 to 2
        ([4, 8, 10, 10], 0.2, 0.5),
        ([4, 8, 10, 10], 0.9, 3.0),
        ([0, 0, 5, 10], 0.99, 4.0),  # beyond the last bound, which is all that is known
        ([0, 0, 0, 0], 0.5, None),
    ):
        assert page.evaluate(QUANTILE, [[1, 2, 4], counts, share]) == pytest.approx(expected), counts
