"""`python -m service` and the `dvt` script, from whatever folder they are started in."""

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


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder whose modules must not be imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text("raise SystemExit(f'{__name__} was imported from the working directory')")
    return folder


@pytest.mark.parametrize("http_workers", ["0", "1"])
@pytest.mark.parametrize("as_script", [False, True])
def test_serve_in_a_folder_with_modules_of_our_names_gets_ready(trap, tmp_path, http_workers, as_script) -> None:
    script = tmp_path / "dvt"
    script.write_text(SCRIPT)
    replica = ReplicaProcess(
        "127.0.0.1",
        free_port("127.0.0.1"),
        tmp_path / "log",
        {
            "DVT_MODEL": save_tiny_model(tmp_path / "tiny"),
            "DVT_HTTP_WORKERS": http_workers,
            "PYTHONPATH": str(ROOT),
        },
        [str(script), "serve"] if as_script else ["-m", "service", "serve"],
        trap,
    )
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
