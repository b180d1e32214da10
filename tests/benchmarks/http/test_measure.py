"""Plans, and what loads on servers come to."""

import asyncio
import json
import os
from dataclasses import replace
from io import StringIO

import pytest
from odd_server import answer, odd_server
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from benchmarks.http.__main__ import main
from benchmarks.http.measure import (
    AnswerError,
    LoadClients,
    Measured,
    MeasurementPlan,
    Referred,
    ServerUnderTest,
    measure,
    meet,
    steps,
)
from benchmarks.http.payload import AnsweredLabel
from benchmarks.http.report import faults, print_report, report
from benchmarks.http.tally import Tally
from service.errors import InvalidParameterError

PLAN = MeasurementPlan(
    images_per_request=(1, 8), connections=4, seconds=2.0, repeats=2, open_rate="2x", open_seconds=4.0, poisson=True
)
TARGET = ServerUnderTest("127.0.0.1", 1, {"name": "dvt"}, [AnsweredLabel("cat", 0.75)])


class RecordingClient(LoadClients):
    """Answers with known figures instead of sending anything."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []

    def send(self, target: ServerUnderTest, **load: object) -> Tally:
        self.sent.append(load)
        tally = Tally(seconds=2.0, answered=100, images=100 * load["images"], answered_s=[0.010] * 100)
        tally.added_s = [0.001, 0.002, 0.004]
        tally.statuses[200] = 100
        return tally


class KnownReference:
    def images_per_s(self, seconds: float) -> float:
        return 800.0

    def latencies_s(self, seconds: float, pause_s: float) -> list[float]:
        return [0.004] * 3 if pause_s == 0 else [0.006] * 3


def printed(figures: dict[str, object]) -> str:
    console = Console(width=200, file=StringIO())
    print_report(figures, console)
    return console.file.getvalue()


@pytest.mark.parametrize("rate", ["fast", "0", "x", "nanx"])
def test_plan_rate_that_is_none_is_refused(rate):
    with pytest.raises(InvalidParameterError, match=rate):
        replace(PLAN, open_rate=rate)


def test_plan_rate_is_a_number_or_a_multiple():
    assert replace(PLAN, open_rate="300").rate(50.0) == 300
    assert PLAN.rate(50.0) == 100


def test_measure_rounds_alternate_and_the_open_loop_doubles_the_closed_one():
    client, told = RecordingClient(), []
    measured, referred = measure(
        client, {"a": TARGET, "b": TARGET}, PLAN, reference=KnownReference(), instant=TARGET, on_step=told.append
    )

    assert len(told) == steps(PLAN, 2)
    assert [(load["images"], load["connections"]) for load in client.sent[:7]] == [(1, 4), (8, 4), (1, 1)] * 2 + [
        (1, 4)
    ]
    assert measured["a"].open_rate == 100
    assert [load.get("rate") for load in client.sent[-2:]] == [100, 100]
    assert len(referred.instant) == len(referred.images_per_s) == 2


def test_measure_open_loop_of_a_server_that_answers_nothing_is_an_error():
    class SilentClient(RecordingClient):
        def send(self, target: ServerUnderTest, **load: object) -> Tally:
            return Tally(seconds=1.0)

    with pytest.raises(AnswerError, match="answered nothing"):
        measure(SilentClient(), {"a": TARGET}, PLAN)


def test_measure_open_loop_of_a_server_that_runs_here_tells_its_cores():
    alone = replace(TARGET, pid=os.getpid())
    measured, _ = measure(RecordingClient(), {"a": alone, "b": TARGET}, PLAN)
    figures = report(PLAN, "small", [b"1"], {"a": alone, "b": TARGET}, measured, Referred())

    process, below = figures["servers"]["a"]["open"]["server_cores"]
    assert process >= 0
    assert below >= 0
    assert figures["servers"]["b"]["open"]["server_cores"] is None
    assert alone.cpu_s()[0] > 0
    assert "front ends" in printed(figures)


def test_report_ratios_are_those_of_their_round_and_everything_is_printed():
    client = RecordingClient()
    measured, referred = measure(client, {"a": TARGET}, PLAN, reference=KnownReference(), instant=TARGET)
    figures = report(PLAN, "small", [b"1234"], {"a": TARGET}, measured, referred)

    ratios = {name: value["median"] for name, value in figures["servers"]["a"]["ratios"].items()}
    assert ratios == pytest.approx(
        {
            "many_over_in_process": 0.5,
            "single_over_instant": 1.0,
            "alone_added_ms": 2.0,
            "alone_minus_loop_ms": 6.0,
            "alone_minus_paced_loop_ms": 4.0,
        }
    )
    assert figures["servers"]["a"]["closed"][1]["images_per_s"] == {"median": 400.0, "min": 400.0, "max": 400.0}
    assert json.loads(json.dumps(figures)) is not None
    for words in ("Closed loop", "Open loop", "instant runner", "800 (800-800) images/s", "without Retry-After: 0"):
        assert words in printed(figures)


def test_report_without_references_has_no_ratios_and_counts_every_fault():
    closed = Tally(seconds=1.0, lost=1, crossed=2, changed=3, no_retry_after=4)
    alone, opened = (Tally(seconds=1.0, lost=lost) for lost in (5, 6))
    measured = {"a": Measured(closed={1: [closed]}, alone=[alone], open=opened, open_rate=9.0)}
    figures = report(PLAN, "large", [b"1"], {"a": TARGET}, measured, Referred())

    assert faults(figures) == 1 + 2 + 3 + 4 + 5 + 6
    assert set(figures["servers"]["a"]["ratios"].values()) == {None}
    assert "without Retry-After: 21" in printed(figures)


async def test_meet_remembers_what_each_image_gets_alone_and_refuses_a_server_that_does_not_classify():
    async with odd_server() as port:
        target = await asyncio.to_thread(meet, "127.0.0.1", port, [b"a", b"b"])
    assert target.expected == [AnsweredLabel("cat", 0.75)] * 2

    async with odd_server(lambda _, request_id: answer(request_id, {}, "503 Service Unavailable")) as port:
        with pytest.raises(AnswerError, match="503"):
            await asyncio.to_thread(meet, "127.0.0.1", port, [b"a"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the URL"),
        (["--serve", "--image", "huge"], "huge"),
        (["--serve", "--arrivals", "seldom"], "seldom"),
        (["--serve-env", "OMP_NUM_THREADS=1"], "OMP_NUM_THREADS"),
        (["ftp://localhost"], "ftp"),
        (["localhost:1"], "cannot be measured"),
    ],
)
def test_main_wrong_option_is_told_with_exit_code_2(arguments, words):
    app = Typer(pretty_exceptions_enable=False)
    app.command()(main)

    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert words in result.output
