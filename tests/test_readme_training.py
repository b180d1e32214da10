"""The five lines of the README that train a model of one's own, run on a few photos and for a few steps."""

import re
import shlex
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from service.capacity.child import SERVE, served
from service.cli import app

README = Path(__file__).parents[1] / "README.md"
COLOURS = {"brick": (178, 74, 52), "leaf": (62, 140, 60)}
PHOTOS = 10
SHORT = "--recipe look_epochs=0,0,0,0 --recipe epochs=0.1 --recipe views=1"


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


def test_readme_five_lines_train_evaluate_and_serve(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    # The warm-up of larger batches takes longer than everything else.
    monkeypatch.setenv("DVT_MAX_BATCH_SIZE", "2")
    monkeypatch.setenv("DVT_DTYPE", "float32")
    train, *commands, serve = _lines()
    for command in (f"{train} {SHORT}", *commands):
        words = shlex.split(command)[1:]
        arguments = [
            each for word in words for each in (sorted(map(str, photos.glob(word))) if "*" in word else [word])
        ]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{command}\n{done.output}"
    assert serve == ".venv/bin/dvt serve --model models-of-mine/photos"
    with served(SERVE, {"DVT_MODEL": str(photos / "models-of-mine/photos")}) as child:
        photo = next((photos / "photos" / "brick").iterdir())
        answer = httpx.post(f"http://{child.host}:{child.port}/classify", content=photo.read_bytes(), timeout=30)
    assert answer.json()["label"] == "brick", answer.text
