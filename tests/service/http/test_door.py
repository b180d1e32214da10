"""Whom the door turns away, and that it says what the route would have said."""

import asyncio
import json
from email.parser import BytesParser

import pytest

from service.http.door import Door

ID = (b"x-request-id", b"mine")
DATE = (b"date", b"Sat, 21 Nov 2026 10:00:00 GMT")


def parsed(answer: bytes) -> tuple[bytes, dict[str, str], dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, _, lines = head.partition(b"\r\n")
    headers = {name.lower(): value for name, value in BytesParser().parsebytes(lines).items()}
    assert headers["content-length"] == str(len(body))
    return status, headers, json.loads(body)


@pytest.mark.parametrize("path", ["/classify", "/"])
async def test_refusal_while_no_permit_is_left_is_the_routes_own(serve, path):
    async with serve(max_inflight=2) as serving:
        with serving.context.engine.admit(2):
            answer = Door(serving.context).refusal(b"POST", path.encode() + b"?top_k=3", [ID], [DATE])
            routed = await serving.client.post(path, headers={"x-request-id": "mine"})
        counted = [
            serving.metric("dvt_requests_total", code="429"),
            serving.metric("dvt_rejected_total", reason="full"),
            serving.total("dvt_images_total"),
        ]

    assert answer is not None
    status, headers, document = parsed(answer)
    assert status == b"HTTP/1.1 429 Too Many Requests"
    assert headers.pop("date") == "Sat, 21 Nov 2026 10:00:00 GMT"
    assert headers == dict(routed.headers)
    assert document == routed.json()
    assert counted == [2, 2, 2]


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129])
async def test_refusal_without_a_sane_id_has_a_new_one(serve, given):
    async with serve(max_inflight=1) as serving:
        with serving.context.engine.admit(1):
            answers = [
                Door(serving.context).refusal(b"POST", b"/classify", [(b"x-request-id", given)], []) for _ in range(2)
            ]

    ids = {parsed(answer)[1]["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert set(map(len, ids)) == {32}


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b"/classify"), (b"POST", b"/config"), (b"POST", b"/classify/")]
)
async def test_refusal_of_what_takes_no_images_is_none(serve, method, target):
    async with serve(max_inflight=1) as serving:
        with serving.context.engine.admit(1):
            assert Door(serving.context).refusal(method, target, [], []) is None


async def test_refusal_while_a_permit_is_left_is_none_and_nothing_is_counted(serve):
    async with serve(max_inflight=2) as serving:
        with serving.context.engine.admit(1):
            assert Door(serving.context).refusal(b"POST", b"/classify", [], []) is None
        assert serving.total("dvt_requests_total") == serving.total("dvt_images_total") == 0


async def test_refusal_of_more_than_there_are_permits_in_one_turn_of_the_loop(serve):
    async with serve(max_inflight=2) as serving:
        door = Door(serving.context)
        answers = []
        for _ in range(3):
            answers.append(door.refusal(b"POST", b"/classify", [], []))
            door.arrived(b"POST", b"/classify")
        await asyncio.sleep(0)
        later = door.refusal(b"POST", b"/classify", [], [])

    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert "2 of 2" in str(parsed(answers[2])[2]["detail"])
    assert later is None


async def test_refusal_behind_requests_whose_bodies_are_still_to_come_is_none(serve):
    async with serve(max_inflight=2) as serving:
        door = Door(serving.context)
        assert [door.refusal(b"POST", b"/classify", [], []) for _ in range(3)] == [None] * 3


async def test_refusal_behind_arrivals_that_take_no_images_is_none(serve):
    async with serve(max_inflight=1) as serving:
        door = Door(serving.context)
        door.arrived(b"GET", b"/metrics")
        assert door.refusal(b"POST", b"/classify", [], []) is None


@pytest.mark.parametrize("reason", ["draining", "key"])
async def test_refusal_that_something_else_comes_before_is_none(serve, reason):
    async with serve(max_inflight=1, **({"api_key": "secret"} if reason == "key" else {})) as serving:
        serving.context.draining = reason == "draining"
        with serving.context.engine.admit(1):
            assert Door(serving.context).refusal(b"POST", b"/classify", [], []) is None
