"""Checkpoints of a training run: written whole or not at all, read without running code from the file."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint that cannot continue this run; the text says what differs."""


def write(path: Path, state: dict[str, Any], fingerprint: dict[str, str]) -> None:
    """Replace `path` atomically.

    Args:
        fingerprint: what must be the same when the run goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        torch.save({"state": state, "fingerprint": fingerprint}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read(path: Path, fingerprint: dict[str, str], device: torch.device) -> dict[str, Any]:
    """The state written by `write`.

    Raises:
        CheckpointError: when the file is damaged or belongs to a run with another fingerprint.
    """
    try:
        document = torch.load(path, map_location=device, weights_only=True)
        found, state = document["fingerprint"], document["state"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this program: {error}") from error
    different = [
        f"{key} was {found.get(key)}, is {fingerprint.get(key)}"
        for key in fingerprint | found
        if found.get(key) != fingerprint.get(key)
    ]
    if different:
        raise CheckpointError(f"{path} belongs to another run: {'; '.join(different)}")
    assert isinstance(state, dict)
    return state
