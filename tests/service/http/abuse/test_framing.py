"""Requests whose bytes do not add up: none is taken for two, and none leaves the connection in doubt."""

import pytest
from tiny_model import png
from wire import Wire, chunked, get, request

SMUGGLED = get("/info")
IMAGE = "Content-Type: image/png"


def post(*headers, body=b""):
    return request(b"", IMAGE, *headers) + body


def assert_refused(wire, status=400):
    answer = wire.answer()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.document["status"] == status
    assert answer.document["request_id"] == answer.headers["x-request-id"]
    assert wire.rest() == b""


@pytest.mark.parametrize(
    "data",
    [
        post("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
        post("Content-Length: 5", "Content-Length: 6", body=b"12345" + SMUGGLED),
        post("Content-Length: 5", "Content-Length: 5", body=b"12345" + SMUGGLED),
        post("Content-Length: 5, 5", body=b"12345" + SMUGGLED),
        post("Content-Length: -1", body=SMUGGLED),
        post("Content-Length: +5", body=b"12345" + SMUGGLED),
        post("Content-Length: 0x5", body=b"12345" + SMUGGLED),
        post("Content-Length: 1 2", body=b"12345" + SMUGGLED),
        post("Content-Length: 99999999999999999999999", body=SMUGGLED),
        post("Content-Length : 5", body=b"12345" + SMUGGLED),
        post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked, chunked", "Content-Length: 3", body=b"0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", body=b"nonsense\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", body=b"-1\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", body=b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED),
        post("Transfer-Encoding: chunked", body=b"1\na\n0\n\n" + SMUGGLED),
        b"GET /livez HTTP/1.1\nHost: dvt\n\n",
        b"GET /livez HTTP/1.1\r\nHost: dvt\r\nX: a\r\n b: folded\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: dvt\r\nX: a\0b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: dvt\r\nX: a\rb\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost dvt\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n: dvt\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /livez\0 HTTP/1.1\r\n\r\n",
        b"GET /caf\xe9 HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/3.7\r\n\r\n",
        b"GET /livez HTTX/1.1\r\n\r\n",
        b"get /livez HTTP/1.1\r\n\r\n",
        b"BREW /livez HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
        b"SSH-2.0-client\r\n",
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


def test_chunked_body_with_extensions_and_trailers_is_read(server):
    body = b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(png()), png())
    with Wire(server) as wire:
        assert wire.ask(post("Transfer-Encoding: chunked", body=body), get("/livez")).status == 200
        assert wire.answer().status == 200


@pytest.mark.parametrize("size", [1, 7])
def test_chunks_of_few_bytes_are_put_together(server, size):
    pieces = [png()[start : start + size] for start in range(0, len(png()), size)]
    with Wire(server) as wire:
        assert wire.ask(post("Transfer-Encoding: chunked", body=chunked(*pieces, b""))).status == 200


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
        answer = wire.ask(request(png(), IMAGE, version="1.0"))
        assert answer.status == 200
        assert wire.rest() == b""


@pytest.mark.parametrize("target", ["http://elsewhere.example/livez", "/livez?", "/livez#top", "/%6c%69vez", "/livez"])
def test_target_in_any_form_reaches_its_route(server, target):
    with Wire(server) as wire:
        assert wire.ask(get(target)).status == 200


@pytest.mark.parametrize(
    "target",
    ["/%00", "/livez%00", "/%ff%fe", "/%", "/%zz", "//livez", "/../livez", "/livez/", "/v2/%ff", "/v2/models/%00"],
)
def test_target_with_odd_bytes_is_404_in_the_words_of_its_protocol(server, target):
    with Wire(server) as wire:
        answer = wire.ask(get(target))
        assert answer.status == 404
        assert ("status" in answer.document) != target.startswith("/v2/")
        assert wire.ask(get("/livez")).status == 200


def test_upgrade_to_another_protocol_is_passed_over(server):
    with Wire(server) as wire:
        assert wire.ask(get("/livez", "Connection: Upgrade", "Upgrade: websocket")).status == 200
