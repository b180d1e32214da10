"""What is computed: a cascade of Vision Transformers with feature and relation reuse."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.config import (
    VARIANTS,
    CascadeConfig,
    ConfigError,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
    TokensToTokenConfig,
)

if TYPE_CHECKING:
    from models.cascade import Cascade
    from models.macs import StageMacs, baseline_macs, stage_macs
    from models.reuse import ReuseState
    from models.stage import StageOutput

__all__ = [
    "VARIANTS",
    "Cascade",
    "CascadeConfig",
    "ConfigError",
    "FeatureReuseConfig",
    "HybridEmbeddingConfig",
    "PatchEmbeddingConfig",
    "RelationReuseConfig",
    "ReuseState",
    "StageMacs",
    "StageOutput",
    "TokensToTokenConfig",
    "baseline_macs",
    "stage_macs",
]


_LAZY = {
    "Cascade": "models.cascade",
    "ReuseState": "models.reuse",
    "StageMacs": "models.macs",
    "StageOutput": "models.stage",
    "baseline_macs": "models.macs",
    "stage_macs": "models.macs",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: code that only needs a configuration does not load torch.
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
