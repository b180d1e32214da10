"""`python -m service` outside of an installation."""

import os
import subprocess
import sys
from pathlib import Path


def test_main_in_a_source_tree_that_is_not_installed_finds_itself() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", "service"]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60)

    # Without site-packages there is no typer; our own packages were found.
    assert "No module named 'typer'" in result.stderr
