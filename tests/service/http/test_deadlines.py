"""Deadlines count from the arrival of a request's head, whatever came between."""

import asyncio

import pytest
from fastapi import Request

from service.http.deadlines import TIMEOUT_HEADER, arriving, deadline_of

PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}
LATE = {TIMEOUT_HEADER: "50"}


@pytest.mark.parametrize(
    ("timeout_ms", "header", "deadline"),
    [
        (None, None, None),
        (250.0, None, 100.25),
        (None, "2000", 102.0),
        (250.0, "2000", 100.25),
        (2500.0, "2000", 102.0),
        (250.0, "9" * 12, 100.25),
        *((None, odd, None) for odd in ("0", "-1", "1.5", "", "9" * 13, "soon")),
    ],
)
def test_deadline_of_a_request_is_the_earlier_one_from_its_arrival(timeout_ms, header, deadline):
    headers = [] if header is None else [(TIMEOUT_HEADER.encode(), header.encode())]
    request = Request({"type": "http", "headers": headers, "state": {"arrived_at": 100.0}})

    assert deadline_of(request, timeout_ms) == deadline


async def test_arriving_without_a_deadline_waits_for_the_body():
    assert await arriving(asyncio.sleep(0, "body"), None) == "body"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/classify?deadline_ms=50", PNG),
        ("/classify", PNG | LATE),
        ("/", PNG | LATE),
        ("/v2/models/test-model/infer", JSON | LATE),
    ],
)
async def test_request_whose_body_is_late_is_504_at_its_deadline(serving, image, path, headers):
    async def never_ending():
        yield image()[:10]
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        response = await serving.client.post(path, content=never_ending(), headers=headers)

    assert response.status_code == 504
    assert "whole request" in response.json().get("detail", response.text)
    assert serving.at_rest()
    assert await serving.images_are_accounted_for()


async def test_time_before_the_body_counts_against_a_deadline_in_it(serving, monkeypatch):
    """A deadline inside the JSON is known only when the body is there; it has passed by then."""
    decoded = []
    monkeypatch.setattr(serving.context.decoder, "decode_small", decoded.append)
    body = b'{"inputs": "AAAA", "parameters": {"deadline_ms": 20}}'

    async def late():
        yield body[:10]
        await asyncio.sleep(0.05)
        yield body[10:]

    response = await serving.client.post("/classify", content=late(), headers=JSON)

    assert response.status_code == 504
    assert decoded == [], "nothing is decoded for an answer that comes too late"
    assert await serving.metric("dvt_rejected_total", reason="deadline") == 1
    assert await serving.images_are_accounted_for()


async def test_deadline_holds_while_a_batch_hangs(serving, image):
    serving.runner.may_run.clear()
    async with asyncio.timeout(5):
        response = await serving.classify(image(), "?deadline_ms=50")

    assert response.status_code == 504
    assert serving.context.engine.inflight == 1, "the engine still has it"
    serving.runner.may_run.set()
    await serving.until(serving.at_rest)
    await serving.until(serving.images_are_accounted_for)
