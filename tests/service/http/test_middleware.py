"""The request id, the counts, and the answers to what fails or is given up."""

import asyncio
import logging

import pytest


async def test_request_id_that_is_sane_is_kept(serving, image):
    for given in ("abc-123", "A.b_c:d/e+f=g@h", "x" * 128):
        response = await serving.classify(image(), **{"x-request-id": given})
        assert response.headers["x-request-id"] == response.json()["id"] == given


async def test_request_id_that_is_absent_or_not_sane_is_replaced_by_a_new_one(serving, image):
    odd = ("", " ", "x" * 129, "a b", "a\tb", "<script>", b"\xe9", 'a"b')
    replaced = set()
    for given in (None, *odd):
        response = await serving.classify(image(), **({} if given is None else {"x-request-id": given}))
        assert response.json()["id"] == response.headers["x-request-id"]
        replaced.add(response.headers["x-request-id"])

    assert len(replaced) == len(odd) + 1
    assert all(len(new) == 32 and int(new, 16) for new in replaced)


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nothing", "/docs", "/openapi.json"])
async def test_request_id_is_on_every_answer(serving, path):
    response = await serving.client.get(path, headers={"x-request-id": "mine"})

    assert response.headers["x-request-id"] == "mine"


async def test_requests_are_counted_by_status_and_timed_unless_refused_or_probes(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.02)) as serving:
        for content in (image(180), image(60), b"nonsense"):
            await serving.classify(content)
        for path in ("/nothing", "/config", "/livez", "/readyz", "/metrics"):
            await serving.client.get(path)

        counts = {code: await serving.metric("dvt_requests_total", code=code) for code in ("200", "400", "404")}
        assert counts == {"200": 3, "400": 1, "404": 1}
        assert await serving.total("dvt_requests_total") == 5
        assert await serving.metric("dvt_request_duration_seconds_count") == 3
        assert await serving.metric("dvt_request_duration_seconds_sum") >= 6 * 0.02


async def test_request_that_fails_unexpectedly_is_counted_as_500(serving, image, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(serving.context.engine, "admit", fail)
    with caplog.at_level(logging.ERROR):
        response = await serving.classify(image(), **{"x-request-id": "r-9"})

    assert response.status_code == 500
    assert response.headers["x-request-id"] == response.json()["request_id"] == "r-9"
    assert await serving.metric("dvt_requests_total", code="500") == 1
    assert "r-9" in caplog.text


async def test_request_that_the_server_gives_up_is_told_503_and_leaves_nothing_behind(serving, image):
    serving.runner.may_run.clear()
    request = asyncio.create_task(serving.classify(image(180)))
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
