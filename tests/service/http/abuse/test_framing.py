"""Requests whose bytes do not add up: none is taken for two, and none leaves the connection in doubt."""

import pytest
from tiny_model import png
from wire import Wire, chunked, get, request

SMUGGLED = get("/info")
IMAGE = "Content-Type: image/png"
CHUNKED = "Transfer-Encoding: chunked"
LIVE = b"GET /livez HTTP/1.1\r\nHost: dvt\r\n"


def post(*headers, body=b""):
    return request(b"", IMAGE, *headers) + body


def assert_refused(wire):
    answer = wire.answer()
    assert answer.status == answer.document["status"] == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.document["request_id"] == answer.headers["x-request-id"]
    assert wire.rest() == b""


@pytest.mark.parametrize(
    "data",
    [
        *(
            post(*headers, body=b"0\r\n\r\n" + SMUGGLED)
            for headers in (
                *(("Content-Length: 5", CHUNKED), (CHUNKED, "Content-Length: 5"), ("Transfer-Encoding: xchunked",)),
                *(("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding: \x0bchunked",)),
            )
        ),
        post("Content-Length: 5", "Content-Length: 6", body=b"12345" + SMUGGLED),
        *(
            post(f"Content-Length{length}", body=b"12345" + SMUGGLED)
            for length in (": 5, 5", ": -1", ": +5", ": 0x5", ": 1 2", f": {'9' * 23}", " : 5")
        ),
        *(
            post(CHUNKED, body=body + SMUGGLED)
            for body in (b"nonsense\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"1\r\nab\r\n0\r\n\r\n", b"1\na\n0\n\n")
        ),
        b"GET /livez HTTP/1.1\nHost: dvt\n\n",
        *(LIVE + header + b"\r\n\r\n" for header in (b"X: a\r\n b: folded", b"X: a\0b", b"X: a\rb", b"X y", b": x")),
        *(
            line + b"\r\n\r\n"
            for line in (
                *(b"GET  HTTP/1.1", b"GET /livez\0 HTTP/1.1", b"GET /caf\xe9 HTTP/1.1", b"GET http:// HTTP/1.1"),
                *(b"GET /livez HTTP/3.7", b"GET /livez HTTX/1.1", b"get /livez HTTP/1.1", b"BREW /livez HTTP/1.1"),
                *(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com", b"PRI * HTTP/2.0\r\n\r\nSM"),
            )
        ),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_request_that_is_not_http_is_one_400_and_nothing_behind_it_is_read(server, data):
    with Wire(server) as wire:
        wire.send(data)
        assert_refused(wire)


def test_body_shorter_than_announced_is_no_request(server):
    with Wire(server) as wire:
        wire.send(post("Content-Length: 1000", body=b"only this"))
        wire.socket.shutdown(1)
        assert wire.rest() == b""


@pytest.mark.parametrize("more", [b"and more\r\n\r\n", post("Content-Length: -1"), get("/" + "x" * 10_000)])
def test_garbage_behind_a_request_does_not_overtake_its_answer(server, more):
    with Wire(server) as wire:
        assert wire.ask(request(png(), IMAGE), more).status == 200
        assert b"200 OK" not in wire.rest()


def test_garbage_behind_an_answer_is_refused(server):
    with Wire(server) as wire:
        assert wire.ask(request(png(), IMAGE)).status == 200
        wire.send(b"and more\r\n\r\n")
        assert_refused(wire)


@pytest.mark.parametrize(
    "body",
    [
        b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(png()), png()),
        chunked(*[png()[start : start + 7] for start in range(0, len(png()), 7)], b""),
    ],
    ids=["extensions", "small"],
)
def test_chunked_body_is_put_together(server, body):
    with Wire(server) as wire:
        assert wire.ask(post(CHUNKED, body=body), get("/livez")).status == 200
        assert wire.answer().status == 200


def test_pipelined_requests_are_answered_in_their_order(server):
    with Wire(server) as wire:
        wire.send(request(png(), IMAGE), get("/info"), get("/nowhere"), get("/livez"))
        assert [wire.answer().status for _ in range(4)] == [200, 200, 404, 200]


def test_more_pipelined_requests_than_the_limit_are_not_all_kept(server):
    with Wire(server) as wire:
        wire.send(get("/livez") * 1000)
        answers = wire.rest().count(b"HTTP/1.1 200 OK")
    assert 1 <= answers < 1000


def test_http_1_0_is_answered_and_closed(server):
    with Wire(server) as wire:
        assert wire.ask(request(png(), IMAGE, version="1.0")).status == 200
        assert wire.rest() == b""


def test_target_in_any_form_reaches_its_route(server):
    with Wire(server) as wire:
        for target in ("http://elsewhere.example/livez", "/livez?", "/livez#top", "/%6c%69vez"):
            assert (target, wire.ask(get(target)).status) == (target, 200)
        assert wire.ask(get("/livez", "Connection: Upgrade", "Upgrade: websocket")).status == 200


def test_target_with_odd_bytes_is_404_in_the_words_of_its_protocol(server):
    odd = ("/%00", "/livez%00", "/%ff%fe", "/%", "/%zz", "//livez", "/../livez", "/livez/", "/v2/%ff", "/v2/models/%00")
    with Wire(server) as wire:
        for target in odd:
            answer = wire.ask(get(target))
            assert (target, answer.status) == (target, 404)
            assert ("status" in answer.document) != target.startswith("/v2/")
