"""Describes the machine of a measurement."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_REPORTED_LIBRARIES = ("torch", "numpy", "pillow", "fastapi", "uvicorn")


def machine(device: str) -> dict[str, Any]:
    """Processor, threads and library versions, as JSON data."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None,
        "torch_threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _REPORTED_LIBRARIES}},
    }


def describe(facts: dict[str, Any]) -> str:
    """The machine in one line."""
    accelerator = f"{facts['accelerator']}, " if facts["accelerator"] else ""
    return (
        f"{accelerator}{facts['cores']} cores of {facts['processor']}, {facts['torch_threads']} torch threads, "
        f"torch {facts['versions']['torch']}, Python {facts['versions']['python']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
