"""What an access log says, and that there is none unless it is asked for."""

import logging
import re

import pytest

from service.http.server import Server

PNG = {"content-type": "image/png"}


@pytest.fixture
def lines(caplog):
    """The access log's lines so far, while other logging has the level `warning`."""
    logger = logging.getLogger("service.http.access_log")
    assert not logger.isEnabledFor(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records if record.name == logger.name]
    logger.setLevel(logging.NOTSET)


async def test_access_log_has_a_line_for_every_answer(serve, image, lines):
    async with serve(access_log=True) as serving:
        headers = {**PNG, "x-request-id": "mine"}
        await serving.client.post("/classify?top_k=2", content=image(), headers=headers)
        await serving.client.head("/livez")
        await serving.client.get("/a%0Ab%20c")

    classified, probed, missed = lines()
    assert re.fullmatch(r'127\.0\.0\.1 "POST /classify\?top_k=2" 200 \d+\.\d ms mine', classified)
    assert probed.startswith('127.0.0.1 "HEAD /livez" 200 ')
    assert missed.startswith('127.0.0.1 "GET /a%0Ab%20c" 404 ')


async def test_access_log_has_what_is_answered_before_a_route(serve, lines):
    async with serve(access_log=True) as serving:
        Server(serving.context)._note_refusal(431, ("192.0.2.1", 5000))

        assert lines() == ['192.0.2.1 "-" 431']
        assert await serving.metric("dvt_requests_total", code="431") == 1


async def test_access_log_that_was_not_asked_for_is_empty(serving, caplog, lines):
    caplog.set_level(logging.DEBUG)
    await serving.client.get("/livez")

    assert lines() == []
