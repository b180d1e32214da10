"""Requests as bytes, and answers as what they say."""

import json

import pytest

from benchmarks.http.connection import HttpReply
from benchmarks.http.payload import AnsweredLabel, answers, own_s, payloads


def test_payloads_single_image_is_the_body_itself():
    first, second = payloads([b"abc", b"de"], 1)

    head, body = first.request("r-1").split(b"\r\n\r\n", 1)
    assert body == b"abc"
    assert head.splitlines()[0] == b"POST /classify HTTP/1.1"
    assert set(head.splitlines()[2:]) == {b"Content-Type: image/jpeg", b"Content-Length: 3", b"X-Request-ID: r-1"}
    assert (first.images, second.images) == ((0,), (1,))


def test_payloads_of_several_images_begin_with_another_one_each():
    made = payloads([b"abc", b"de", b"f"], 2)

    assert [payload.images for payload in made] == [(0, 1), (1, 2), (2, 0)]
    head, body = made[2].request("r").split(b"\r\n\r\n", 1)
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert body.count(b'name="file"') == 2
    assert body.index(b"\r\n\r\nf\r\n") < body.index(b"\r\n\r\nabc\r\n")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"id": "a", "results": [{"error": {}}]}'])
def test_answers_of_anything_else_are_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        answers(HttpReply(200, {}, body))


def test_answers_are_in_order():
    results = [{"label": "a", "confidence": 0.5, "top": []}, {"label": "b", "confidence": 0.25}]
    seen = [AnsweredLabel("a", 0.5), AnsweredLabel("b", 0.25)]

    assert answers(HttpReply(200, {}, json.dumps({"id": "r", "results": results}).encode())) == ("r", seen)
    assert answers(HttpReply(200, {}, json.dumps({"id": "r", **results[0]}).encode())) == ("r", seen[:1])


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (b"decode;dur=0.5, queue;dur=0.25, compute;dur=4, total;dur=6.125", pytest.approx(0.0045)),
        (b"total;dur=6.1", None),
        (b"", None),
    ],
)
def test_own_s_is_decoding_and_computing_if_the_server_says_both(timing, expected):
    assert own_s(HttpReply(200, {b"server-timing": timing}, b"")) == expected
