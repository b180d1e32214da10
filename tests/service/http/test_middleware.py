"""What every request gets: an id, and a place in the counts."""

import asyncio
import logging

import pytest

PNG = {"content-type": "image/png"}


@pytest.mark.parametrize("given", ["abc-123", "A.b_c:d/e+f=g@h", "x" * 128])
async def test_request_id_that_is_sane_is_kept(serving, image, given):
    response = await serving.client.post("/classify", content=image(), headers={**PNG, "x-request-id": given})

    assert response.headers["x-request-id"] == given
    assert response.json()["id"] == given


@pytest.mark.parametrize("given", ["", " ", "x" * 129, "a b", "a\tb", "<script>", b"\xe9", 'a"b'])
async def test_request_id_that_is_not_sane_is_replaced(serving, image, given):
    response = await serving.client.post("/classify", content=image(), headers={**PNG, "x-request-id": given})

    replaced = response.headers["x-request-id"]
    assert len(replaced) == 32
    assert int(replaced, 16)
    assert response.json()["id"] == replaced


async def test_request_id_when_absent_is_new_for_every_request(serving):
    ids = {(await serving.client.get("/config")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nothing", "/docs", "/openapi.json"])
async def test_request_id_is_on_every_answer(serving, path):
    response = await serving.client.get(path, headers={"x-request-id": "mine"})

    assert response.headers["x-request-id"] == "mine"


async def test_requests_are_counted_by_status_and_timed_unless_refused(serving, image):
    for content in (image(), image(60), b"nonsense"):
        await serving.client.post("/classify", content=content, headers=PNG)
    await serving.client.get("/nothing")
    await serving.client.get("/config")

    counts = {code: await serving.metric("dvt_requests_total", code=code) for code in ("200", "400", "404")}
    assert counts == {"200": 3, "400": 1, "404": 1}
    assert await serving.metric("dvt_request_duration_seconds_count") == 3


async def test_requests_of_probes_and_scrapes_are_not_counted(serving):
    for path in ("/livez", "/readyz", "/metrics"):
        await serving.client.get(path)

    assert await serving.total("dvt_requests_total") == 0
    assert await serving.metric("dvt_request_duration_seconds_count") == 0


async def test_request_duration_covers_the_whole_request(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.02)) as serving:
        await serving.client.post("/classify", content=image(180), headers=PNG)

        assert await serving.metric("dvt_request_duration_seconds_sum") >= 4 * 0.02


async def test_request_that_fails_unexpectedly_is_counted_as_500(serving, image, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(serving.context.engine, "admit", fail)
    with caplog.at_level(logging.ERROR):
        response = await serving.client.post("/classify", content=image(), headers={**PNG, "x-request-id": "r-9"})

    assert response.status_code == 500
    assert response.headers["x-request-id"] == response.json()["request_id"] == "r-9"
    assert await serving.metric("dvt_requests_total", code="500") == 1
    assert "r-9" in caplog.text


async def test_request_that_the_server_gives_up_is_told_503_and_leaves_nothing_behind(serving, image):
    serving.runner.may_run.clear()
    request = asyncio.create_task(serving.client.post("/classify", content=image(180), headers=PNG))
    await serving.until(lambda: len(serving.runner.runs) == 1)
    request.cancel()  # the client runs the application in its own task
    response = await request
    await serving.heard()
    serving.runner.may_run.set()

    assert (response.status_code, response.json()["title"]) == (503, "Not ready")
    assert response.headers["retry-after"] == "5"

    await serving.until(serving.at_rest)
    await serving.until(serving.images_are_accounted_for)
    assert await serving.metric("dvt_requests_total", code="503") == 1
    assert serving.runner.runs == [(0, 1)]
