"""The load generator on a server that misbehaves: whatever goes wrong is counted as what it is."""

import time
from collections.abc import Callable
from functools import partial

import pytest
from odd_server import Reaction, answer, good, odd_server

from benchmarks.http.load import ProcessLoad, drive
from benchmarks.http.payload import AnsweredLabel, payloads
from benchmarks.http.tally import Tally

CAT = AnsweredLabel("cat", 0.75)


def short_load(port: int, images: int = 1, **changes: object) -> ProcessLoad:
    plan = {"connections": 3, "seconds": 0.15, "warm_up_s": 0.0, "patience_s": 1.0, **changes}
    requests = payloads([b"a", b"bc"], images)
    return ProcessLoad(host="127.0.0.1", port=port, payloads=requests, expected=[CAT, CAT], **plan)


async def load_on(react: Reaction = good, **plan: object) -> Tally:
    """A short load, from the server's own loop."""
    async with odd_server(react) as port:
        return await drive(short_load(port, **plan))


async def test_load_nobody_listening_is_lost():
    async with odd_server() as port:
        pass
    tally = await drive(short_load(port, watch_livez=False))

    assert tally.lost > 0
    assert tally.answered == 0


def faults(tally: Tally) -> tuple[int, int, int, int]:
    return tally.lost, tally.crossed, tally.changed, tally.no_retry_after


@pytest.mark.parametrize("images", [1, 8])
async def test_load_of_a_good_server_has_no_faults(images):
    tally = await load_on(partial(good, images=images), images=images)

    assert faults(tally) == (0, 0, 0, 0)
    assert tally.answered == len(tally.answered_s) == tally.statuses[200] > 0
    assert tally.images == images * tally.answered
    assert tally.livez_s
    assert 0 < tally.client_cpu_s < time.process_time()


@pytest.mark.parametrize("connections", [1, 2])
async def test_load_of_one_connection_only_takes_the_servers_own_time_off(connections):
    timing = "Server-Timing: decode;dur=0.5, compute;dur=3, total;dur=4\r\n"

    def react(number: int, request_id: str) -> bytes:
        return answer(request_id, {"id": request_id, "label": "cat", "confidence": 0.75}, headers=timing)

    tally = await load_on(react, connections=connections)
    added = [latency - 0.0035 for latency in tally.answered_s] if connections == 1 else []
    assert tally.added_s == pytest.approx(added)


CROSSED, CHANGED = (0, 1, 0, 0), (0, 0, 1, 0)


def says(request_id: str, **body: object) -> bytes:
    return answer(request_id, {"id": request_id, "label": "cat", "confidence": 0.75, **body})


@pytest.mark.parametrize(
    ("second", "images", "expected"),
    [
        (lambda request_id: good(2, request_id + "0"), 1, CROSSED),
        (lambda request_id: says(request_id, id="other"), 1, CROSSED),
        (lambda request_id: says(request_id, label="dog"), 1, CHANGED),
        (lambda request_id: says(request_id, confidence=0.73), 1, CHANGED),
        (lambda request_id: answer(request_id, {"id": request_id, "error": {"status": 500}}), 1, CHANGED),
        (lambda request_id: good(2, request_id, images=7), 8, CHANGED),
        (lambda request_id: says(request_id, confidence=0.755), 1, (0, 0, 0, 0)),  # rounding
        (lambda request_id: answer(request_id, {}, "429 Too Many", "Retry-After: 1\r\n"), 1, (0, 0, 0, 0)),
        (lambda request_id: answer(request_id, {}, "429 Too Many"), 1, (0, 0, 0, 1)),
    ],
)
async def test_load_one_bad_answer_is_counted_as_what_it_is(
    second: Callable[[str], bytes], images: int, expected: tuple[int, int, int, int]
) -> None:
    def react(number: int, request_id: str) -> bytes:
        return second(request_id) if number == 2 else good(number, request_id, images)

    tally = await load_on(react, images=images)
    assert faults(tally) == expected
    refused = int(b"429" in second("id"))
    assert (tally.refused, len(tally.refused_s), tally.statuses[429]) == (refused, refused, refused)


@pytest.mark.parametrize("second", [None, b""], ids=["closed", "silent"])
async def test_load_answer_that_never_comes_is_lost_and_the_others_go_on(second: bytes | None) -> None:
    def react(number: int, request_id: str) -> bytes | None:
        return second if number == 2 else good(number, request_id)

    tally = await load_on(react, patience_s=0.1)

    assert faults(tally) == (1, 0, 0, 0)
    assert tally.answered > 2


async def test_load_server_that_closes_after_each_answer_loses_nothing():
    def react(number: int, request_id: str) -> bytes:
        return good(number, request_id).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    tally = await load_on(react)
    assert faults(tally) == (0, 0, 0, 0)
    assert tally.answered > 3


@pytest.mark.parametrize("poisson", [True, False])
async def test_load_open_loop_sends_at_its_times_whatever_comes_back(poisson):
    # The first answer never comes: a closed loop of one connection would stop there.
    def react(number: int, request_id: str) -> bytes:
        return b"" if number == 1 else good(number, request_id)

    tally = await load_on(react, rate=200.0, connections=4, seconds=0.3, poisson=poisson, patience_s=0.1)
    assert tally.lost == 1
    assert tally.statuses[200] > 10
    assert len(tally.sent_late_s) == tally.statuses[200] + 1


async def test_load_open_loop_latency_counts_from_the_intended_time():
    # Ten requests are due within 0.1 s and one connection takes 0.02 s for each: the last waits for most of the others.
    def react(number: int, request_id: str) -> bytes:
        time.sleep(0.02)
        return good(number, request_id)

    tally = await load_on(react, rate=100.0, connections=1, seconds=0.1, poisson=False, watch_livez=False)
    assert max(tally.answered_s) > 0.08


async def test_load_open_loop_requests_that_never_get_a_connection_are_unsent_and_not_lost():
    tally = await load_on(lambda *_: b"", rate=100.0, connections=1, seconds=0.1, poisson=False, patience_s=0.1)

    assert (tally.lost, tally.unsent) == (1, 9)
    assert tally.answered == 0
