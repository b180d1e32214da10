"""The `dvt` command, run in this process."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_model import save_tiny_model
from typer.testing import CliRunner

from service.cli import app
from service.commands import files
from service.replica import backend
from service.replica.process import child_environment
from service.version import service_version


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A model folder with random weights, whose images leave at the last stage unless told otherwise."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        Image.new("RGB", (20, 30), (80 * index, 0, 0)).save(path)
    return paths


@pytest.fixture(autouse=True)
def _wide_terminal_and_bare_environment(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("DVT_MODEL", "DVT_CONFIG_FILE", "DVT_DEVICE", "DVT_DTYPE", "DVT_MAX_INFLIGHT", "DVT_HTTP_PORT"):
        monkeypatch.delenv(name, raising=False)


def dvt(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def test_classify_prints_a_row_for_each_file_and_fails_when_one_is_bad(model, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    result = dvt("classify", images[0], broken, tmp_path / "missing.png", "--model", model)

    assert result.exit_code == 1
    first, second, third = (line for line in result.stdout.splitlines() if ".png" in line)
    assert re.search(r"(cat|dog|ship) .* 0\.\d{3} .* 14x14 .* [\d,]+ .* \d+\.\d%", first)
    assert "not an image" in second
    assert "No such file" in third


def test_classify_json_has_every_field_of_the_http_answer(model, images):
    result = dvt("classify", images[0], images[0].parent / "missing.png", "--model", model, "--json")

    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert first["file"] == str(images[0])
    assert set(first) == {"file", "label", "index", "confidence", "top", "exit", "compute", "timing_ms"}
    assert set(second) == {"file", "error"}


def test_classify_thresholds_decide_the_exit_and_never_give_way_to_the_load_it_makes(model, images, monkeypatch):
    # The model has no calibration table: a server with this setting would refuse to start.
    monkeypatch.setenv("DVT_SHED_ACCURACY_DROP", "1")
    result = dvt("classify", *images, "--model", model, "--thresholds", "2,0,2", "--json")

    answers = json.loads(result.stdout)
    assert [answer["exit"]["stage"] for answer in answers] == [1] * 3
    assert [answer["compute"]["tokens"] for answer in answers] == [5 + 17] * 3


def test_classify_folders_and_standard_input_in_groups_are_answered_in_order(model, images, monkeypatch):
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "2")
    result = dvt("classify", "-", images[0].parent, "--model", model, "--json", input=images[0].read_bytes())

    assert result.exit_code == 0
    answers = json.loads(result.stdout)
    assert [answer["file"] for answer in answers] == ["-", *map(str, images)]
    assert answers[0]["confidence"] == pytest.approx(answers[1]["confidence"])
    assert len({answer["confidence"] for answer in answers[1:]}) == 3


def test_classify_file_names_that_cannot_be_shown_are_escaped(model, images):
    strange = os.path.join(os.fsencode(images[0].parent), b"caf\xe9\n\x1b[2J.png")
    os.rename(images[0], strange)
    result = subprocess.run(
        [sys.executable, "-m", "service", "classify", strange, images[1], "--model", model],
        env={**child_environment(), "COLUMNS": "200", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )

    assert result.returncode == 0, result.stderr
    first, _ = (line for line in result.stdout.splitlines() if b".png" in line)
    assert rb"caf\xe9\n\x1b[2J.png" in first


@pytest.mark.parametrize(("limit", "used"), [("2", 2), ("64", 3)])
def test_classify_batches_are_no_larger_than_allowed_or_needed(model, images, monkeypatch, limit, used):
    sizes = []

    def build(settings):
        sizes.append(settings.max_batch_size)
        return backend.build(settings)

    monkeypatch.setattr(files, "build", build)
    monkeypatch.setenv("DVT_MAX_BATCH_SIZE", limit)

    assert dvt("classify", *images, "--model", model).exit_code == 0
    assert sizes == [used]


@pytest.fixture
def _sigterm_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_sigterm_handler")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("classify", "0.png", "--thresholds", "0.5,0.5"), "3 thresholds"),
        (("classify", "0.png", "--device", "abacus"), "abacus"),
        (("classify", "0.png", "--model", "no-such-model"), "no model 'no-such-model'"),
        (("serve", "--port", "65536"), "DVT_HTTP_PORT: Input should be less than or equal to 65535, got 65536"),
    ],
)
def test_command_with_a_wrong_option_is_one_line_and_exit_code_2(model, monkeypatch, command, message):
    monkeypatch.setenv("DVT_MODEL", model)
    result = dvt(*command)

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_serve_what_is_wrong_is_said_before_torch_is_imported():
    code = """
import sys
from service.cli import app
app(sys.argv[1:], standalone_mode=False) == 2 or sys.exit("not refused")
sys.exit("imported" if "torch" in sys.modules else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, "serve", "--host", "192.0.2.1"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "cannot listen on 192.0.2.1" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.returncode == 0


def test_info_shows_every_exit_its_cost_and_the_provenance(tmp_path):
    result = dvt("info", save_tiny_model(tmp_path / "tiny", provenance={"data": {"name": "none at all"}}))

    assert result.exit_code == 0
    for expected in ("tiny", "2x2", "4x4", "7x7", "14x14", "plain", "197", "28 px", "data.name", "none at all", "100%"):
        assert expected in result.stdout


@pytest.mark.parametrize(
    ("sums_follow", "message"), [(False, "sha256"), (True, "model.safetensors does not hold this architecture")]
)
def test_info_of_an_altered_model_or_of_other_weights_is_one_line(model, tmp_path, sums_follow, message):
    altered = tmp_path / "altered"
    shutil.copytree(model, altered)
    config, sums = altered / "config.json", altered / "SHA256SUMS"
    before = hashlib.sha256(config.read_bytes()).hexdigest()
    config.write_text(config.read_text().replace('"embed_dim": 12', '"embed_dim": 24'))
    if sums_follow:
        sums.write_text(sums.read_text().replace(before, hashlib.sha256(config.read_bytes()).hexdigest()))
    result = dvt("info", altered)

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "-h"], ["bench", "engine", "-h"]])
def test_help_has_a_short_form_and_names_every_command(arguments):
    result = dvt(*arguments)

    assert result.exit_code == 0
    assert "Usage" in result.stdout
    if arguments == ["--help"]:
        commands = ("train", "calibrate", "evaluate", "convert", "plan", "serve", "classify", "info", "bench")
        assert all(re.search(rf"\b{command}\b", result.stdout) for command in commands)


def test_version_is_printed():
    result = dvt("--version")

    assert (result.exit_code, result.stdout) == (0, f"dynamic-vit-service {service_version()}\n")
