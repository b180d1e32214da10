"""More of everything than anybody needs: refused early, readably, and without holding on to it."""

import gzip
import json

import httpx
import pytest
from tiny_model import png
from wire import MAX_BODY_BYTES, Wire, chunked, get, request

IMAGE = "Content-Type: image/png"
JSON = "Content-Type: application/json"
TEXT = "Content-Type: text/plain"
MULTIPART = "Content-Type: multipart/form-data; boundary=x"


def part(name=b"file", more=b""):
    return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n%s\r\ndata\r\n' % (name, more)


def announced(length, *headers):
    return request(b"", IMAGE, f"Content-Length: {length}", *headers)


def assert_problem(answer, status):
    assert answer.status == answer.document["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(b"x" * int(1.01 * MAX_BODY_BYTES), IMAGE), 413),
        (request(b"x" * int(1.9 * MAX_BODY_BYTES), IMAGE, version="1.0"), 413),
        (request(b"", IMAGE, "Transfer-Encoding: chunked") + chunked(*[b"x" * 50_000] * 12), 413),
        (announced(10**15), 413),
        (announced(10**9, "Expect: 100-continue"), 413),
        (b"GET /livez HTTP/1.1\r\nX: " + b"y" * 360_000, 431),
        (get("/livez", *[f"X-{number}: y" for number in range(5000)]), 431),
        (get("/classify?thresholds=" + "9" * 9000), 414),
    ],
    ids=["body", "body-1.0", "chunks", "announced", "expect", "head", "headers", "target"],
)
def test_request_over_a_limit_is_refused_readably_and_closed(server, data, status):
    with Wire(server) as wire:
        answer = wire.ask(data)
        assert_problem(answer, status)
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""


def test_body_without_an_end_is_cut_soon_after_the_limit(server):
    with Wire(server) as wire:
        wire.send(request(b"", IMAGE, "Transfer-Encoding: chunked"))
        with pytest.raises(ConnectionError):
            wire.send(chunked(b"x" * MAX_BODY_BYTES) * 100)


def test_body_that_is_refused_unread_leaves_the_connection_usable_unless_it_goes_on(server):
    with Wire(server) as wire:
        assert_problem(wire.ask(request(b"x" * 100_000, TEXT)), 415)
        assert wire.ask(request(png(), IMAGE)).status == 200
        assert_problem(wire.ask(request(b"", TEXT, f"Content-Length: {10**12}")), 415)
        with pytest.raises(ConnectionError):
            wire.send(*[b"x" * MAX_BODY_BYTES] * 100)


def test_continue_is_said_before_a_body_that_will_be_read(server):
    with Wire(server) as wire:
        wire.send(announced(len(png()), "Expect: 100-continue"))
        assert wire.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wire.ask(png()).status == 200


def test_compressed_body_is_415_unread(server):
    bomb = gzip.compress(b"\0" * 5_000_000)
    with Wire(server) as wire:
        for encoding in ("gzip", "deflate", "br", "gzip, gzip", "x" * 500):
            assert_problem(wire.ask(request(bomb, IMAGE, f"Content-Encoding: {encoding}")), 415)


DEEP = [b"[", b'{"inputs":', b'{"inputs":[', b'{"inputs":"","parameters":{"a":']
ODD = [
    json.dumps({"inputs": [""] * 10_000}).encode(),
    json.dumps({"inputs": "", "parameters": {f"p{n}": n for n in range(10_000)}}).encode(),
    b'{"inputs":"","parameters":{"top_k":' + b"9" * 100_000 + b"}}",
    b'{"inputs":"","parameters":{"deadline_ms":1e999}}',
    b'{"inputs":"\\ud800"}',
    b'"\xff"',
]


@pytest.mark.parametrize("target", ["/classify", "/", "/v2/models/tiny/infer", "/config/simulate"])
def test_json_that_is_deep_or_odd_is_an_error_of_the_caller_in_few_words(server, target):
    for body in [opening * (60_000 // len(opening)) for opening in DEEP] + ODD:
        with Wire(server) as wire:
            answer = wire.ask(request(body, JSON, target=target))
            assert answer.status in (400, 413, 422), body[:100]
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
    ids=range(7),
)
def test_multipart_of_too_many_pieces_is_refused(server, body, status):
    with Wire(server) as wire:
        assert_problem(wire.ask(request(body, MULTIPART)), status)
        if status != 413:
            assert wire.ask(get("/livez")).status == 200


def test_as_many_headers_as_the_limit_are_read(server):
    with Wire(server) as wire:
        assert wire.ask(get("/livez", *[f"X-{number}: y" for number in range(127)])).status == 200


def test_query_of_many_parameters_is_422_in_few_words(server):
    with Wire(server) as wire:
        for query in ("&".join(f"p{n}=1" for n in range(1000)), "top_k=1&" * 65, "=&" * 4000, "&" * 8000):
            answer = wire.ask(request(png(), IMAGE, target=f"/classify?{query}"))
            assert_problem(answer, 422)
            assert len(answer.body) < 2000


def test_every_route_answers_head_like_get_without_the_body_and_405_to_other_methods(server):
    paths = httpx.get(f"http://{server.host}:{server.port}/openapi.json").json()["paths"]
    with Wire(server) as wire:

        def ask(path, method):
            return wire.ask(request(method=method, target=path.format(name="tiny", version="1")), method=method)

        for path, operations in [*paths.items(), ("/console", {"get"}), ("/docs", {"get"})]:
            with_head = {"GET", "HEAD"} if "get" in operations else set()
            for method in ("OPTIONS", "TRACE", "DELETE"):
                refused = ask(path, method)
                assert (path, refused.status) == (path, 405)
                assert set(refused.headers["allow"].split(", ")) == {name.upper() for name in operations} | with_head
                assert not [name for name in refused.headers if name.startswith("access-control")]
            got, headed = ask(path, "GET"), ask(path, "HEAD")
            assert [(path, each.status) for each in (got, headed)] == [(path, 200 if with_head else 405)] * 2
            assert got.headers.keys() == headed.headers.keys()
            assert not headed.body


def test_connection_is_used_again_after_an_error(server):
    with Wire(server) as wire:
        for data, status in (
            (get("/nowhere"), 404),
            (request(b"x", TEXT), 415),
            (request(b"x", IMAGE, target="/classify?top_k=x"), 422),
            (request(b"x", IMAGE), 400),
            (request(png(), IMAGE, target="/classify?deadline_ms=0.000001"), 504),
        ):
            assert_problem(wire.ask(data), status)
            assert wire.ask(request(png(), IMAGE)).status == 200
