"""`dvt plan` from recorded times: deterministic, and clear about what it cannot do."""

import json

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.commands import plan as cli


@pytest.fixture
def times(times_of, tmp_path):
    path = tmp_path / "times.json"
    times_of(seconds=((0.002, 0.008),) * 4, ratios=(0.9, 1.0, 1.4)).write(path)
    return path


def plan(model, *options):
    arguments = ["plan", str(model), "--images", "1000", "--max-batch-size", "8", *map(str, options)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_plan_from_recorded_times_writes_the_same_figures_every_time(model, times, tmp_path):
    texts = []
    for name in ("a.json", "b.json"):
        result = plan(model, "--rate", 500, "--p99-ms", 60, "--stage-times", times, "--json", tmp_path / name)
        assert result.exit_code == 0, result.output
        texts.append((tmp_path / name).read_text())

    assert texts[0] == texts[1]
    figures = json.loads(texts[0])
    assert figures["exit_shares"] == [0.5, 0.25, 0.125, 0.125]
    assert figures["overhead"]["front_end_ms"] == 0.5
    assert "may be lost" in result.output


def test_plan_without_recorded_times_records_and_writes_them(model, times, tmp_path, monkeypatch):
    asked = []

    def recorded(stored, settings, repeats, image_sizes, progress):
        asked.append((repeats, list(image_sizes)))
        return cli._read(times, stored, settings)

    monkeypatch.setattr(cli, "_record", recorded)
    saved, figures = tmp_path / "saved.json", tmp_path / "figures.json"
    options = ("--rate", 9, "--p99-ms", 60, "--repeats", 3, "--overhead-ms", 2)

    assert plan(model, *options, "--json", figures).exit_code == 0
    assert plan(model, *options[:-2], "--save-stage-times", saved).exit_code == 0
    assert asked == [(3, ["small"]), (3, ["small", "large"])]
    assert saved.read_text() == times.read_text()
    # What is given takes the place of what was measured.
    assert json.loads(figures.read_text())["overhead"]["front_end_ms"] == 2.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--p99-ms", "3"], "a p99 of 3 ms cannot be kept"),
        (["--p99-ms", "60", "--image", "huge"], "huge"),
        (["--p99-ms", "60", "--image", "large"], "give --overhead-ms"),
        (["--p99-ms", "60", "--max-batch-size", "16"], "batches of 8; 16"),
        (["--p99-ms", "60", "--thresholds", "high"], "high"),
    ],
)
def test_plan_what_cannot_be_is_told_with_exit_code_2(model, times, options, words):
    result = plan(model, "--rate", "500", "--stage-times", times, *options)

    assert result.exit_code == 2
    assert words in result.output
