"""`python -m service` and the `dvt` script, from whatever surroundings they are started in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from replicas import ROOT, ReplicaProcess, free_port
from tiny_model import save_tiny_model

SCRIPT = "import sys; from service.cli import app; sys.exit(app())"
# Ours, of a library and of the standard library.
NAMES = ("models", "weights", "uvicorn", "msgspec", "json", "argparse")
# What is run without standard input, output and error.
CLOSED = """
import os, sys
for descriptor in range(3):
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(("http_workers", "as_script"), [("0", True), ("1", False)])
def test_serve_without_standard_streams_in_a_folder_with_modules_of_our_names_gets_ready_and_ends_with_0(
    tmp_path: Path, http_workers: str, as_script: bool
) -> None:
    trap, script = tmp_path / "trap", tmp_path / "dvt"
    trap.mkdir()
    for name in NAMES:
        (trap / f"{name}.py").write_text("raise SystemExit(f'{__name__} was imported from the working directory')")
    script.write_text(SCRIPT)
    settings = {
        "DVT_MODEL": save_tiny_model(tmp_path / "tiny"),
        "DVT_HTTP_WORKERS": http_workers,
        "PYTHONPATH": str(ROOT),
    }
    program = ["-c", CLOSED, *([str(script)] if as_script else ["-m", "service"]), "serve"]
    replica = ReplicaProcess("127.0.0.1", free_port("127.0.0.1"), tmp_path / "log", settings, program, trap)
    replica.start()
    try:
        replica.until_status("/readyz", 200)
        replica.process.terminate()
        assert replica.process.wait(60) == 0
    finally:
        replica.kill()


def test_main_in_a_source_tree_that_is_not_installed_finds_itself() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", "service"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    # Without site-packages there is no typer; our own packages were found.
    assert "No module named 'typer'" in result.stderr
