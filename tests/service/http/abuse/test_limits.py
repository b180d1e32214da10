"""More of everything than anybody needs: refused early, readably, and without holding on to it."""

import gzip
import json

import httpx
import pytest
from tiny_model import png
from wire import MAX_BODY_BYTES, Wire, chunked, get, request

IMAGE = "Content-Type: image/png"
JSON = "Content-Type: application/json"
MULTIPART = "Content-Type: multipart/form-data; boundary=x"


def part(name=b"file", more=b""):
    return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n%s\r\ndata\r\n' % (name, more)


def announced(length, *headers):
    return request(b"", IMAGE, f"Content-Length: {length}", *headers)


def assert_problem(answer, status):
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.document["status"] == status


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("share", [1.01, 1.9])
def test_body_over_the_limit_that_is_sent_whole_is_413_that_can_be_read(server, share, version):
    body = b"x" * int(share * MAX_BODY_BYTES)
    with Wire(server) as wire:
        answer = wire.ask(request(body, IMAGE, version=version))
        assert_problem(answer, 413)
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""


def test_body_over_the_limit_is_413_before_it_is_sent(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(announced(10**15)), 413)
        assert wire.rest() == b""


def test_body_without_an_end_is_413_at_the_limit_and_cut_soon_after(server):
    with Wire(server) as wire:
        wire.send(request(b"", IMAGE, "Transfer-Encoding: chunked"))
        with pytest.raises(ConnectionError):
            wire.send(chunked(b"x" * MAX_BODY_BYTES) * 100)


def test_chunked_body_over_the_limit_is_413_that_can_be_read(server):
    with Wire(server) as wire:
        wire.send(request(b"", IMAGE, "Transfer-Encoding: chunked"), chunked(*[b"x" * 50_000] * 12))
        assert_problem(wire.answer(), 413)
        assert wire.rest() == b""


def test_body_that_is_refused_unread_leaves_the_connection_usable(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(request(b"x" * 100_000, "Content-Type: text/plain")), 415)
        assert wire.ask(request(png(), IMAGE)).status == 200


def test_body_that_is_refused_unread_and_goes_on_is_cut(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(request(b"", "Content-Type: text/plain", f"Content-Length: {10**12}")), 415)
        with pytest.raises(ConnectionError):
            wire.send(*[b"x" * MAX_BODY_BYTES] * 100)


def test_continue_is_said_before_a_body_that_will_be_read(server):
    with Wire(server) as wire:
        wire.send(announced(len(png()), "Expect: 100-continue"))
        assert wire.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wire.ask(png()).status == 200


def test_continue_is_not_said_before_a_body_that_is_too_large(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(announced(10**9, "Expect: 100-continue")), 413)
        assert wire.rest() == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x" * 500])
def test_compressed_body_is_415_unread(server, encoding):
    bomb = gzip.compress(b"\0" * 50_000_000)
    with Wire(server) as wire:
        assert_problem(wire.ask(request(bomb, IMAGE, f"Content-Encoding: {encoding}")), 415)
        assert wire.ask(get("/livez")).status == 200


@pytest.mark.parametrize("target", ["/classify", "/", "/v2/models/tiny/infer", "/config/simulate"])
@pytest.mark.parametrize("opening", [b"[", b'{"inputs":', b'{"inputs":[', b'{"inputs":"","parameters":{"a":'])
def test_json_that_is_deep_is_an_error_of_the_caller(server, target, opening):
    with Wire(server) as wire:
        body = opening * (60_000 // len(opening))
        answer = wire.ask(request(body, JSON, target=target))
        assert answer.status in (400, 422)
        assert len(answer.body) < 2000
        assert wire.ask(get("/livez")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"inputs": [""] * 10_000}),
        json.dumps({"inputs": "", "parameters": {f"p{n}": n for n in range(10_000)}}),
        '{"inputs":"","parameters":{"top_k":' + "9" * 100_000 + "}}",
        '{"inputs":"","parameters":{"deadline_ms":1e999}}',
        '{"inputs":"","inputs":1}',
        '{"inputs":"\\ud800"}',
        '"\xff"',
    ],
)
def test_json_that_is_odd_is_an_error_of_the_caller(server, body):
    with Wire(server) as wire:
        answer = wire.ask(request(body.encode("latin-1"), JSON))
        assert answer.status in (400, 413, 422)
        assert len(answer.body) < 2000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (part() * 5000, 413),
        (part(b"other") * 5000, 422),
        (part(more=b"".join(b"X-%d: y\r\n" % number for number in range(5000))), 400),
        (part(more=b"X: " + b"y" * 300_000 + b"\r\n"), 400),
        (b"--x\r\nContent-Disposition: " + b"y" * 300_000, 400),
        (b"--x\r\n" * 50_000, 400),
        (b"\r\n" * 100_000, 400),
    ],
)
def test_multipart_of_too_many_pieces_is_refused(server, body, status):
    with Wire(server) as wire:
        assert_problem(wire.ask(request(body, MULTIPART)), status)
        if status != 413:
            assert wire.ask(get("/livez")).status == 200


def test_head_without_an_end_is_431(server):
    with Wire(server) as wire:
        wire.send(b"GET /livez HTTP/1.1\r\nX: ")
        for _ in range(6):
            wire.send(b"y" * 60_000)
        assert_problem(wire.answer(), 431)
        assert wire.rest() == b""


def test_header_flood_is_431(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(get("/livez", *[f"X-{number}: y" for number in range(5000)])), 431)
        assert wire.rest() == b""


def test_as_many_headers_as_the_limit_are_read(server):
    with Wire(server) as wire:
        assert wire.ask(get("/livez", *[f"X-{number}: y" for number in range(127)])).status == 200


def test_long_target_is_414(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(get("/classify?thresholds=" + "9" * 9000)), 414)
        assert wire.rest() == b""


@pytest.mark.parametrize("query", ["&".join(f"p{n}=1" for n in range(1000)), "top_k=1&" * 65, "=&" * 4000, "&" * 8000])
def test_query_of_many_parameters_is_422_in_few_words(server, query):
    with Wire(server) as wire:
        answer = wire.ask(request(png(), IMAGE, target=f"/classify?{query}"))
        assert_problem(answer, 422)
        assert len(answer.body) < 2000


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "DELETE"])
def test_method_that_no_route_has_is_405_naming_those_there_are(server, method):
    paths = httpx.get(f"http://{server.host}:{server.port}/openapi.json").json()["paths"]
    with Wire(server) as wire:
        for path, operations in paths.items():
            target = path.format(name="tiny", version="1")
            answer = wire.ask(request(method=method, target=target), method=method)
            assert (path, answer.status) == (path, 405)
            allowed = {name.upper() for name in operations} | ({"HEAD"} if "get" in operations else set())
            assert set(answer.headers["allow"].split(", ")) == allowed
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_is_answered_like_get_without_the_body(server):
    paths = httpx.get(f"http://{server.host}:{server.port}/openapi.json").json()["paths"]
    with Wire(server) as wire:
        for path in [*(path for path, operations in paths.items() if "get" in operations), "/console", "/docs"]:
            target = path.format(name="tiny", version="1")
            answers = [wire.ask(request(method=method, target=target), method=method) for method in ("GET", "HEAD")]
            assert [(path, each.status) for each in answers] == [(path, 200)] * 2
            assert answers[0].headers.keys() == answers[1].headers.keys()
            assert not answers[1].body
        assert wire.ask(request(method="HEAD"), method="HEAD").status == 405


@pytest.mark.parametrize(
    ("target", "status", "headers", "body"),
    [
        ("/nowhere", 404, [], b""),
        ("/livez", 405, [], b""),
        ("/classify", 415, ["Content-Type: text/plain"], b"x"),
        ("/classify?top_k=x", 422, [IMAGE], b"x"),
        ("/classify", 400, [IMAGE], b"x"),
        ("/classify?deadline_ms=0.000001", 504, [IMAGE], png()),
        ("/config/simulate", 415, [], b"x"),
    ],
)
def test_connection_is_used_again_after_an_error(server, target, status, headers, body):
    with Wire(server) as wire:
        for _ in range(2):
            assert_problem(wire.ask(request(body, *headers, target=target)), status)
        assert wire.ask(request(png(), IMAGE)).status == 200
