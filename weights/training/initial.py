"""A stored model as the start of a training run."""

from dataclasses import replace
from pathlib import Path

from models.cascade import Cascade
from models.config import HybridEmbeddingConfig
from models.embedding import residual_blocks
from models.embedding_config import EmbeddingConfig
from weights.store import ModelFormatError, load


def _unstaged(embedding: EmbeddingConfig) -> EmbeddingConfig:
    """Without the depth of each stage's map, which a static ViT has in one piece."""
    return replace(embedding, stage_blocks=()) if isinstance(embedding, HybridEmbeddingConfig) else embedding


def start_from(folder: Path, cascade: Cascade, *, out: Path, stem_only: bool = False) -> dict[str, str]:
    """Give `cascade` the weights of a model folder; where the classes differ in number, its heads stay as they are.

    Args:
        out: the folder the run will write.
        stem_only: take nothing but the stem, behind which the stages may differ: static ViTs and ablations.

    Returns:
        Name and checksum of the weights, for provenance and to tell runs apart, and the part if it was not all.

    Raises:
        ModelFormatError: when the folder is not a model, has another architecture (or stem), or is `out`.
    """
    if folder.resolve() == out.resolve():
        raise ModelFormatError(f"{folder} would be overwritten by the model that starts from it")
    stored = load(folder)
    config, origin = stored.cascade.config, {"name": stored.manifest.name, "sha256": stored.sha256}
    if stem_only:
        stem, own_stem = stored.cascade.stem, cascade.stem
        if stem is None or own_stem is None or _unstaged(config.embedding) != _unstaged(cascade.config.embedding):
            raise ModelFormatError(f"{folder} has {config.embedding}, the run {cascade.config.embedding}")
        own_stem.load_state_dict(stem.state_dict())
        trained_blocks = residual_blocks(stored.cascade.deepening)
        for block, trained in zip(residual_blocks(cascade.deepening), trained_blocks, strict=False):
            block.load_state_dict(trained.state_dict())
        return origin | {"part": "stem"}
    if replace(config, num_classes=cascade.config.num_classes) != cascade.config:
        raise ModelFormatError(f"{folder} holds {config}, the run is of {cascade.config}")
    state = stored.cascade.state_dict()
    if config.num_classes != cascade.config.num_classes:
        own = cascade.state_dict()
        state = {key: own[key] if ".head." in key else value for key, value in state.items()}
    cascade.load_state_dict(state)
    return origin
