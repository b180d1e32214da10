from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from cascades import TINY

from models.config import (
    VARIANTS,
    ConfigError,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 0}, "embed_dim must be positive, got 0"),
        ({"depth": -1}, "depth must be positive, got -1"),
        ({"num_heads": 5}, "embed_dim 12 is not divisible by num_heads 5"),
        ({"grids": ()}, "grids must be positive"),
        ({"grids": (4, 4)}, "grids must increase"),
        ({"grids": (2, 5)}, "at most twice its predecessor"),
        ({"grids": (7, 14, 28)}, "grid 28 is finer than the stem's map of 14"),
        ({"image_size": 27}, "27 is not divisible by the stem's stride 2"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive"),
        ({"norm_eps": 0.0}, "norm_eps must be positive"),
        ({"image_size": 29, "embedding": PatchEmbeddingConfig()}, "odd padding"),
        ({"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2, 1))}, "as many channels as strides"),
        ({"embedding": HybridEmbeddingConfig(channels=(0,), strides=(2,))}, "stem sizes must be positive"),
    ],
)
def test_cascade_config_invalid_raises_naming_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_cascade_config_coarse_step_without_reuse_is_allowed() -> None:
    assert replace(TINY, grids=(2, 14), feature_reuse=None, relation_reuse=None).num_stages == 2


def test_reuse_configs_nonpositive_raise() -> None:
    with pytest.raises(ConfigError, match="feature reuse"):
        FeatureReuseConfig(hidden_dim=0)
    with pytest.raises(ConfigError, match="expansion"):
        RelationReuseConfig(expansion=0)


def test_cascade_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TINY.depth = 3  # type: ignore[misc]


def test_cascade_config_plain_is_one_stage_without_reuse() -> None:
    plain = TINY.plain()
    assert (plain.grids, plain.feature_reuse, plain.relation_reuse) == ((14,), None, None)
    assert plain.num_tokens(0) == 197


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_the_product_grids(name: str) -> None:
    assert VARIANTS[name].grids == (2, 4, 7, 14)
