"""What the tests of `docker/` share: its files, the tools that judge them, and what the service really exposes."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import save_tiny_model

from service.replica.backend import build
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "docker"

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def verdict(tool: str, *arguments: str | Path, folder: Path = ROOT, **environment: str) -> str:
    """What a tool prints about files it accepts; skips where there is no such tool.

    Raises:
        AssertionError: it does not accept them.
    """
    found = shutil.which(tool, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"needs {tool}")
    command = [found, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{tool}: {done.stdout}\n{done.stderr}"
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


@cache
def exposed_metrics() -> frozenset[str]:
    """Names of all series of our own that `/metrics` of a model has, or has from an event on."""
    with TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "tiny")
        backend = build(Settings(model=model, device="cpu", dtype="float32", max_inflight=1))
    text = backend.metrics.render().decode()
    families = [family for family in text_string_to_metric_families(text) if family.name.startswith("dvt_")]
    assert len(families) > 10
    return frozenset(family.name + suffix for family in families for suffix in _SUFFIXES[family.type])


def metrics_in(text: str) -> set[str]:
    """Names of our metrics in any text, PromQL among it."""
    return set(re.findall(r"\bdvt_[a-z_]+\b", text))
