"""The surroundings of other Python processes that run this package."""

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Where the packages are."""


def child_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with some variables on top.

    A Python in it imports the very packages that this process has, and nothing from its working directory.
    """
    path = os.environ.get("PYTHONPATH", "")
    if sysconfig.get_path("purelib") != str(ROOT):  # found without help, and after the standard library
        path = os.pathsep.join(filter(None, (str(ROOT), path)))
    return {**os.environ, **(added or {}), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
