"""What is computed: a cascade of Vision Transformers with feature and relation reuse."""

from models.cascade import Cascade
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
