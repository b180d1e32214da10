"""What the processes of this package have in common: their environment, their log and their garbage collection."""

import gc
import logging
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds the packages."""
# With the default of 700, a front end under load spends a sixth of its time on garbage collections of up to 50 ms, in
# which it answers nothing. Requests leave no garbage: see tests/service/http/test_garbage.py.
_YOUNG_OBJECTS = 50_000


def child_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with some variables added.

    A Python process in it imports the same packages as this process, and nothing from its working directory.
    """
    path = os.environ.get("PYTHONPATH", "")
    if sysconfig.get_path("purelib") != str(ROOT):  # not installed: Python would not find the packages
        path = os.pathsep.join(filter(None, (str(ROOT), path)))
    return {**os.environ, **(added or {}), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def log_to_stderr(level: str) -> None:
    """Log messages from this level on, in the same format in all processes."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def settle_heap() -> None:
    """Exclude all present objects from garbage collections, and make these rarer; called once, after start-up.

    The libraries have 200,000 objects; a collection of them takes a quarter of a second, in which nothing is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
