"""The README tells the truth about what can be checked: settings, commands, routes."""

import re
from pathlib import Path

from typer.main import get_command

from service.cli import app
from service.settings import PREFIX, Settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_names_every_setting_and_no_other() -> None:
    named = set(re.findall(rf"`{PREFIX}([A-Z_]+)`", README)) - {"CONFIG_FILE"}
    assert named == {name.upper() for name in Settings.model_fields}


def test_readme_commands_exist() -> None:
    used = set(re.findall(r"(?:bin/|\b|`)dvt ([a-z]+)\b", README))
    assert used <= set(get_command(app).commands)
    assert {"train", "convert", "serve", "classify", "info"} <= used


def test_readme_files_exist() -> None:
    root = Path(__file__).parents[1]
    for name in re.findall(r"\]\(([A-Za-z/._-]+)\)", README) + re.findall(r"@(tests/[\w/.]+)", README):
        assert (root / name).exists(), name
