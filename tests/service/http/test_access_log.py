"""The access log's lines, and that there are none unless they are asked for."""

import logging
import re

import pytest

from service.http.server import Server


@pytest.fixture
def lines(caplog):
    """The access log's lines so far, while other logging has the level `warning`."""
    logger = logging.getLogger("service.http.access_log")
    assert not logger.isEnabledFor(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records if record.name == logger.name]
    logger.setLevel(logging.NOTSET)


async def test_access_log_has_a_line_for_every_answer_and_every_refusal(serve, image, lines):
    async with serve(access_log=True) as serving:
        await serving.classify(image(), "?top_k=2", **{"x-request-id": "mine"})
        await serving.client.head("/livez")
        await serving.client.get("/a%0Ab%20c")
        Server(serving.context)._note_refusal(431, ("192.0.2.1", 5000))
        assert await serving.metric("dvt_requests_total", code="431") == 1

    classified, probed, missed, refused = lines()
    assert re.fullmatch(r'127\.0\.0\.1 "POST /classify\?top_k=2" 200 \d+\.\d ms mine', classified)
    assert probed.startswith('127.0.0.1 "HEAD /livez" 200 ')
    assert missed.startswith('127.0.0.1 "GET /a%0Ab%20c" 404 ')
    assert refused == '192.0.2.1 "-" 431'


async def test_access_log_that_was_not_asked_for_is_empty(serving, caplog, lines):
    caplog.set_level(logging.DEBUG)
    await serving.client.get("/livez")

    assert lines() == []
