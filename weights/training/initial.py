"""A stored model as the start of a training run."""

from dataclasses import replace
from pathlib import Path

from models.cascade import Cascade
from weights.store import ModelFormatError, load


def start_from(folder: Path, cascade: Cascade, *, out: Path) -> dict[str, str]:
    """Give `cascade` the weights of a model folder; where the classes differ in number, its heads stay as they are.

    Args:
        out: the folder the run will write.

    Returns:
        Name and checksum of the weights, for provenance and to tell runs apart.

    Raises:
        ModelFormatError: when the folder is not a model, has another architecture, or is `out`.
    """
    if folder.resolve() == out.resolve():
        raise ModelFormatError(f"{folder} would be overwritten by the model that starts from it")
    stored = load(folder)
    config = stored.cascade.config
    if replace(config, num_classes=cascade.config.num_classes) != cascade.config:
        raise ModelFormatError(f"{folder} holds {config}, the run is of {cascade.config}")
    state = stored.cascade.state_dict()
    if config.num_classes != cascade.config.num_classes:
        own = cascade.state_dict()
        state = {key: own[key] if ".head." in key else value for key, value in state.items()}
    cascade.load_state_dict(state)
    return {"name": stored.manifest.name, "sha256": stored.sha256}
