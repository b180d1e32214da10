"""Deadlines count from the arrival of a request's head, whatever came between."""

import asyncio
import time

import pytest
from fastapi import Request

from service.errors import DeadlineExceededError
from service.http.deadlines import TIMEOUT_HEADER, arriving, deadline_of

PNG = {"content-type": "image/png"}


def request_with(headers: dict[str, str]) -> Request:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": encoded, "state": {"arrived_at": 100.0}})


@pytest.mark.parametrize(
    ("timeout_ms", "header", "deadline"),
    [
        (None, None, None),
        (250.0, None, 100.25),
        (None, "2000", 102.0),
        (250.0, "2000", 100.25),
        (2500.0, "2000", 102.0),
        *((250.0, odd, 100.25) for odd in ("0", "-1", "1.5", "", "9" * 13, "soon")),
    ],
)
def test_deadline_of_a_request_is_the_earlier_one_from_its_arrival(timeout_ms, header, deadline):
    request = request_with({} if header is None else {TIMEOUT_HEADER: header})

    assert deadline_of(request, timeout_ms) == deadline


async def test_arriving_body_that_comes_too_late_is_given_up():
    with pytest.raises(DeadlineExceededError, match="whole request"):
        await arriving(asyncio.sleep(30), time.monotonic() + 0.01)
    assert await arriving(asyncio.sleep(0, "body"), None) == "body"


async def slowly(data: bytes):
    yield data[:10]
    await asyncio.sleep(30)
    yield data[10:]


@pytest.mark.parametrize(
    ("path", "query", "headers"),
    [
        ("/classify", "?deadline_ms=50", PNG),
        ("/classify", "", {**PNG, TIMEOUT_HEADER: "50"}),
        ("/", "", {**PNG, TIMEOUT_HEADER: "50"}),
        ("/v2/models/test-model/infer", "", {"content-type": "application/json", TIMEOUT_HEADER: "50"}),
    ],
)
async def test_request_whose_body_is_late_is_504_at_its_deadline(serving, image, path, query, headers):
    began = time.monotonic()
    response = await serving.client.post(path + query, content=slowly(image()), headers=headers)

    assert response.status_code == 504
    assert time.monotonic() - began < 10
    assert serving.at_rest()
    assert await serving.images_are_accounted_for()


async def test_time_before_the_body_counts_against_a_deadline_in_it(serving, image, monkeypatch):
    """A deadline inside the JSON is known only when the body is there; it has passed by then."""
    decoded = []
    monkeypatch.setattr(serving.context.decoder, "decode_small", decoded.append)
    body = b'{"inputs": "AAAA", "parameters": {"deadline_ms": 20}}'

    async def late():
        yield body[:10]
        await asyncio.sleep(0.1)
        yield body[10:]

    response = await serving.client.post("/classify", content=late(), headers={"content-type": "application/json"})

    assert response.status_code == 504
    assert decoded == [], "nothing is decoded for an answer that comes too late"
    assert await serving.metric("dvt_rejected_total", reason="deadline") == 1
    assert await serving.images_are_accounted_for()


async def test_deadline_holds_while_a_batch_hangs(serving, image):
    serving.runner.may_run.clear()
    began = time.monotonic()
    response = await serving.client.post("/classify?deadline_ms=50", content=image(), headers=PNG)

    assert response.status_code == 504
    assert time.monotonic() - began < 5
    assert serving.context.engine.inflight == 1, "the engine still has it"
    serving.runner.may_run.set()
    await serving.until(serving.at_rest)
    await serving.until(serving.images_are_accounted_for)
