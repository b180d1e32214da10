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
import torch
from PIL import Image
from typer.testing import CliRunner

from models.cascade import Cascade
from models.config import CascadeConfig
from service.cli import app
from service.commands import classify as local
from service.replica import backend
from service.replica.process import child_environment
from service.version import service_version
from weights.preprocessing import Preprocessing
from weights.store import Manifest, save

ARCHITECTURE = CascadeConfig(image_size=28, num_classes=3, embed_dim=12, depth=2, num_heads=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model folder with random weights; its images leave at the first stage unless told otherwise."""
    torch.manual_seed(0)
    manifest = Manifest(
        name="tiny",
        architecture=ARCHITECTURE,
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        class_names=("cat", "dog", "ship"),
        thresholds=(0.0, 0.0, 0.0),
        temperatures=(1.0, 1.0, 1.0, 1.0),
        provenance={"data": {"name": "none at all"}},
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(folder, Cascade(ARCHITECTURE), manifest, "# tiny\n")
    return folder


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


def dvt(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_classify_files_prints_a_row_each(model, images):
    result = dvt("classify", *images, "--model", model)

    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if ".png" in line]
    assert len(rows) == 3
    for row in rows:
        assert re.search(r"(cat|dog|ship) .* 0\.\d{3} .* 2x2 .* [\d,]+ .* \d+\.\d%", row)


def test_classify_bad_files_are_rows_of_their_own_and_the_command_fails(model, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    result = dvt("classify", images[0], broken, tmp_path / "missing.png", "--model", model)

    assert result.exit_code == 1
    first, second, third = (line for line in result.stdout.splitlines() if ".png" in line)
    assert "2x2" in first
    assert "not an image" in second
    assert "No such file" in third


def test_classify_json_has_every_field_of_the_http_answer(model, images):
    result = dvt("classify", *images[:2], images[0].parent / "missing.png", "--model", model, "--json")

    assert result.exit_code == 1
    first, second, third = json.loads(result.stdout)
    assert first["file"] == str(images[0])
    assert set(first) == {"file", "label", "index", "confidence", "top", "exit", "compute", "timing_ms"}
    assert second["exit"] == {"stage": 0, "grid": 2, "reason": "confident", "threshold": 0.0}
    assert set(third) == {"file", "error"}


@pytest.mark.parametrize(("thresholds", "stage", "tokens"), [("2", 3, 5 + 17 + 50 + 197), ("2,0,2", 1, 5 + 17)])
def test_classify_thresholds_decide_the_exit(model, images, thresholds, stage, tokens):
    result = dvt("classify", *images, "--model", model, "--thresholds", thresholds, "--json")

    answers = json.loads(result.stdout)
    assert [answer["exit"]["stage"] for answer in answers] == [stage] * 3
    assert [answer["compute"]["tokens"] for answer in answers] == [tokens] * 3


def test_classify_more_files_than_may_be_in_flight_are_all_answered_in_order(model, images, monkeypatch):
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "2")
    result = dvt("classify", *images, *images, "--model", model, "--json")

    answers = json.loads(result.stdout)
    assert [answer["file"] for answer in answers] == [str(path) for path in (*images, *images)]
    assert [answer["confidence"] for answer in answers[:3]] == pytest.approx(
        [answer["confidence"] for answer in answers[3:]]
    )


def test_classify_folders_and_standard_input_are_rows_like_files(model, images):
    folder, data = images[0].parent, images[0].read_bytes()
    result = CliRunner().invoke(app, ["classify", "-", str(folder), "--model", str(model), "--json"], input=data)

    assert result.exit_code == 0
    answers = json.loads(result.stdout)
    assert [answer["file"] for answer in answers] == ["-", *map(str, images)]
    assert answers[0]["confidence"] == pytest.approx(answers[1]["confidence"])


@pytest.mark.parametrize("as_json", [False, True])
def test_classify_file_names_that_cannot_be_shown_are_escaped(model, images, as_json):
    strange = os.path.join(os.fsencode(images[0].parent), b"caf\xe9\n\x1b[2J.png")
    os.rename(images[0], strange)
    result = subprocess.run(
        [sys.executable, "-m", "service", "classify", strange, images[1], "--model", model, *["--json"] * as_json],
        env={**child_environment(), "COLUMNS": "200", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )

    assert result.returncode == 0, result.stderr
    if as_json:
        strange_answer, _ = json.loads(result.stdout)
        assert strange_answer["file"].endswith("caf\\xe9\n\x1b[2J.png")
    else:
        first, _ = (line for line in result.stdout.splitlines() if b".png" in line)
        assert rb"caf\xe9\n\x1b[2J.png" in first


@pytest.mark.parametrize(("limit", "used"), [("2", 2), ("64", 3)])
def test_classify_batches_are_no_larger_than_allowed_or_needed(model, images, monkeypatch, limit, used):
    sizes = []

    def build(settings):
        sizes.append(settings.max_batch_size)
        return backend.build(settings)

    monkeypatch.setattr(local, "build", build)
    monkeypatch.setenv("DVT_MAX_BATCH_SIZE", limit)

    assert dvt("classify", *images, "--model", model).exit_code == 0
    assert sizes == [used]


def test_classify_thresholds_never_give_way_to_the_load_it_makes_itself(model, images, monkeypatch):
    monkeypatch.setenv("DVT_SHED_ACCURACY_DROP", "1")
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "3")

    # The model has no calibration table: a server with this setting would refuse to start.
    assert dvt("classify", *images, "--model", model).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--thresholds", "0.5,0.5"], "3 thresholds"),
        (["--thresholds", "high"], "high"),
        (["--device", "abacus"], "abacus"),
        (["--dtype", "int8"], "int8"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_classify_wrong_option_is_one_line_and_exit_code_2(model, images, arguments, word):
    result = dvt("classify", images[0], "--model", model, *arguments)

    assert result.exit_code == 2
    assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_info_shows_every_exit_its_cost_and_the_provenance(model):
    result = dvt("info", model)

    assert result.exit_code == 0
    for expected in ("tiny", "2x2", "4x4", "7x7", "14x14", "plain", "197", "28 px", "none at all", "100%"):
        assert expected in result.stdout


def test_info_of_an_altered_model_says_so(model, tmp_path):
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in model.iterdir():
        (altered / file.name).write_bytes(file.read_bytes())
    with (altered / "config.json").open("a") as file:
        file.write(" ")
    result = dvt("info", altered)

    assert result.exit_code == 2
    assert "sha256" in result.stderr


def test_info_of_weights_for_another_architecture_is_one_line(model, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(model, mixed)
    config, sums = mixed / "config.json", mixed / "SHA256SUMS"
    before = hashlib.sha256(config.read_bytes()).hexdigest()
    config.write_text(config.read_text().replace('"embed_dim": 12', '"embed_dim": 24'))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(config.read_bytes()).hexdigest()))
    result = dvt("info", mixed)

    assert result.exit_code == 2
    assert "model.safetensors does not hold this architecture" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def _sigterm_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_sigterm_handler")
def test_serve_setting_out_of_range_is_one_line_and_exit_code_2(model):
    result = dvt("serve", "--model", model, "--port", "65536")

    assert result.exit_code == 2
    assert result.stderr == "error: DVT_HTTP_PORT: Input should be less than or equal to 65535, got 65536\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "DVT_HTTP_PORT"),
        (["--model", "no-such-model"], "no model 'no-such-model'"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_serve_what_is_wrong_is_said_before_torch_is_imported(arguments, message):
    code = """
import sys
from service.cli import app
app(sys.argv[1:], standalone_mode=False) == 2 or sys.exit("not refused")
sys.exit("imported" if "torch" in sys.modules else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, "serve", *arguments],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.returncode == 0


def test_help_names_every_command():
    result = dvt("--help")

    assert result.exit_code == 0
    for command in ("serve", "classify", "info", "train"):
        assert re.search(rf"\b{command}\b", result.stdout)


@pytest.mark.parametrize("arguments", [["-h"], ["serve", "-h"], ["bench", "engine", "-h"]])
def test_help_has_a_short_form_everywhere(arguments):
    result = dvt(*arguments)

    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_version_is_printed():
    result = dvt("--version")

    assert (result.exit_code, result.stdout) == (0, f"dynamic-vit-service {service_version()}\n")


def test_help_does_not_wait_for_torch():
    code = "import sys; from service.cli import app; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]

    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0
