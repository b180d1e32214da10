"""A stored model as the start of a training run."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.cascade import Cascade
from models.config import CascadeConfig, LookConfig, TrunkEmbeddingConfig
from weights.store import ModelFormatError, StoredModel


def start_from(
    stored: StoredModel, cascade: Cascade, class_names: tuple[str, ...], *, out: Path, looks_only: bool = False
) -> dict[str, Any]:
    """Copy the weights of a stored model to `cascade`; classifiers only if the classes are the same.

    Each stage takes the weights of the stored stage with its grid and look. Modules without a counterpart, as in a
    static ViT or an ablation of reuse, keep their weights.

    Args:
        out: the folder the run will write.
        looks_only: take only the trunks and the classifiers on their features.

    Returns:
        Name and checksum of the weights, and which part was taken if not all.

    Raises:
        ModelFormatError: when the model has another architecture, has no trunks for `looks_only`, or is `out`.
    """
    if stored.path.resolve() == out.resolve():
        raise ModelFormatError(f"{stored.path} would be overwritten by the model that starts from it")
    config = stored.cascade.config
    if _sizes(config) != _sizes(cascade.config):
        raise ModelFormatError(f"{stored.path} holds {config}, the run is of {cascade.config}")
    if looks_only and not isinstance(config.embedding, TrunkEmbeddingConfig):
        raise ModelFormatError(f"{stored.path} has no trunks, and nothing else was to be taken from it")
    state = cascade.state_dict()
    for stage, grid in enumerate(cascade.config.grids):
        source = _counterpart(config, cascade.config, stage)
        if source is None:
            raise ModelFormatError(f"{stored.path} has no stage of {grid}x{grid} tokens like the run's")
        same_classes = stored.manifest.class_names == class_names
        for name, value in stored.cascade.stages[source].state_dict().items():
            key, part = f"stages.{stage}.{name}", name.split(".")[0]
            if part == "logit_share" or (part in ("head", "pooled_head") and not same_classes):
                continue
            if looks_only and not name.startswith(("pooled_head.", "embedding.trunk.")):
                continue
            if key in state and state[key].shape == value.shape:
                state[key] = value
    if not looks_only:
        state |= {key: value for key, value in stored.cascade.state_dict().items() if key.startswith("stem.")}
    cascade.load_state_dict(state)
    origin: dict[str, Any] = {"name": stored.manifest.name, "sha256": stored.sha256}
    if looks_only:
        origin["part"] = "looks"
    return origin


def _sizes(config: CascadeConfig) -> dict[str, Any]:
    """The values that must agree; stages, classes and reuse may differ."""
    sizes = asdict(replace(config, num_classes=1))
    for name in ("grids", "feature_reuse", "relation_reuse", "logit_reuse"):
        del sizes[name]
    sizes["embedding"].pop("looks", None)
    return sizes


def _counterpart(stored: CascadeConfig, own: CascadeConfig, stage: int) -> int | None:
    """The stored stage with the same grid and, where stages look, the same look."""
    for index, grid in enumerate(stored.grids):
        if grid == own.grids[stage] and _look(stored, index) == _look(own, stage):
            return index
    return None


def _look(config: CascadeConfig, stage: int) -> LookConfig | None:
    embedding = config.embedding
    return embedding.looks[stage] if isinstance(embedding, TrunkEmbeddingConfig) else None
