"""Checkpoints of a training run: written atomically, read without executing code from the file."""

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
        fingerprint: values that must be the same when the run continues, by readable name.
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
        found, state = dict(document["fingerprint"]), document["state"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this program: {error}") from error
    different = [
        f"{key}: {found.get(key, 'none')} -> {fingerprint.get(key, 'none')}"
        for key in fingerprint | found
        if found.get(key) != fingerprint.get(key)
    ]
    if different:
        raise CheckpointError(
            "\n  ".join([f"{path.parent} holds another run, which differs in", *different])
            + "\nstart this one with another --out or --run-dir, or delete that folder to begin anew"
        )
    assert isinstance(state, dict)
    return state
