"""The five lines of the README that train a model of one's own, run as they stand on a few photos."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.capacity.child import SERVE, served

README = Path(__file__).parents[1] / "README.md"
COLOURS = {"brick": (178, 74, 52), "leaf": (62, 140, 60)}
PHOTOS = 10


def _lines() -> list[str]:
    section = README.read_text().split("## Train your own")[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [line.split("#")[0].strip() for line in block[1].splitlines()]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(PHOTOS):
            coarse = np.clip(generator.normal(colour, 30, (9, 12, 3)), 0, 255).astype(np.uint8)
            photo = Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC)
            photo.save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path


def test_readme_five_lines_train_evaluate_and_serve(photos: Path) -> None:
    *commands, serve = _lines()
    for command in commands:
        arguments = [
            str(match)
            for word in shlex.split(command)[1:]
            for match in (sorted(photos.glob(word)) if "*" in word else [word])
        ]
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments], cwd=photos, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert serve == ".venv/bin/dvt serve --model models-of-mine/photos"
    with served(SERVE, {"DVT_MODEL": str(photos / "models-of-mine/photos")}) as child:
        photo = next((photos / "photos" / "brick").iterdir())
        answer = httpx.post(f"http://{child.host}:{child.port}/classify", content=photo.read_bytes(), timeout=30)
    assert answer.json()["label"] == "brick", answer.text
