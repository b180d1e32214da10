"""The same work without HTTP."""

import json
import sys
from io import StringIO

import pytest

from benchmarks.http import reference
from benchmarks.http.reference_process import reference_process
from service.capacity.child import ServerFailedError
from service.capacity.sample_images import sample_jpegs

JPEGS = sample_jpegs("small", 2)

PROGRAM = """#!/bin/sh
echo '{"ready": true}'
while read -r command; do
    echo "$2 $command" >> asked
    echo '{"images_per_s": 5, "latencies_s": [0.25]}'
done
"""


def test_reference_answers_each_command(model, monkeypatch, capsys):
    settings = {"MODEL": str(model), "DEVICE": "cpu", "MAX_INFLIGHT": "4", "MAX_BATCH_SIZE": "4", "DECODE_THREADS": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"DVT_{name}", value)
    monkeypatch.setattr(reference, "settle_heap", lambda: None)
    images = {"jpegs": [jpeg.hex() for jpeg in JPEGS], "seconds": 0.05}
    latency = {"do": "latency", **images}
    commands = [{"do": "throughput", **images}, {**latency, "pause_s": 0.0}, {**latency, "pause_s": 0.04}]
    monkeypatch.setattr(sys, "stdin", StringIO("\n".join(map(json.dumps, commands))))
    reference.main()

    ready, throughput, tight, paced = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"ready": True}
    assert throughput["images_per_s"] > 0
    assert len(tight["latencies_s"]) >= 1
    # Pauses are between the images, and no part of what they took.
    assert 1 <= len(paced["latencies_s"]) <= 2


def test_reference_process_is_asked_for_both_figures(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(program))
    with reference_process(JPEGS, {}) as process:
        assert process.images_per_s(3) == 5
        assert process.latencies_s(2, 0.5) == [0.25]

    jpegs = [jpeg.hex() for jpeg in JPEGS]
    asked = [line.split(" ", 1) for line in (tmp_path / "asked").read_text().splitlines()]
    assert {module for module, _ in asked} == {reference.__name__}
    assert [json.loads(command) for _, command in asked] == [
        {"do": "throughput", "seconds": 3, "jpegs": jpegs},
        {"do": "latency", "seconds": 2, "pause_s": 0.5, "jpegs": jpegs},
    ]


def test_reference_process_that_has_ended_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(ServerFailedError, match="has ended"), reference_process(JPEGS, {}):
        pass
