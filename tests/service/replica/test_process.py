"""What processes of this package have in common, and what a front end is made of."""

import gc
import os
import subprocess
import sys

import pytest

from service.replica.process import ROOT, child_environment, settle_heap


class Knot:
    """Refers to itself, so that only the collector can end it."""

    def __init__(self, ends: list[str]) -> None:
        self.me = self
        self.ends = ends

    def __del__(self) -> None:
        self.ends.append("end")


@pytest.fixture
def thaw():
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_child_environment_finds_this_package_first_and_nothing_in_the_working_directory(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = child_environment({"DVT_MODEL": "m"})

    assert environment["PYTHONPATH"] == os.pathsep.join((str(ROOT), "/elsewhere"))
    assert (environment["PYTHONSAFEPATH"], environment["DVT_MODEL"]) == ("1", "m")


def test_child_environment_of_an_installed_package_adds_nothing_to_the_path(monkeypatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(ROOT))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")

    assert child_environment()["PYTHONPATH"] == "/elsewhere"


@pytest.mark.usefixtures("thaw")
def test_settle_heap_leaves_what_exists_out_of_collections_that_go_on_unasked() -> None:
    before = len(gc.get_objects())
    garbage: list[str] = []
    Knot(garbage)

    settle_heap()

    assert garbage == ["end"]
    assert gc.get_freeze_count() > before / 2
    assert len(gc.get_objects()) < before / 2
    later: list[str] = []
    Knot(later)
    kept = [[] for _ in range(20_000)]
    assert later == [], "collections are rarer"
    kept += [[] for _ in range(80_000)]
    assert later == ["end"]


def test_front_end_needs_no_torch() -> None:
    code = "import sys, service.replica.front_end; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], env=child_environment()).returncode == 0
