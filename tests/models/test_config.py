from dataclasses import replace
from typing import Any

import pytest
from cascades import TINY, TINY_T2T

from models.config import (
    ConfigError,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
    TokensToTokenConfig,
)

DEEP = replace(TINY, embedding=HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), stage_blocks=(0, 1, 0, 2)))


def _stem(**changes: Any) -> dict[str, Any]:
    return {"embedding": HybridEmbeddingConfig(**{"channels": (4,), "strides": (2,), **changes})}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 0}, "embed_dim must be positive, got 0"),
        ({"num_heads": 5}, "embed_dim 12 is not divisible by num_heads 5"),
        ({"grids": ()}, "grids must be positive"),
        ({"grids": (4, 4)}, "grids must increase"),
        ({"grids": (2, 5)}, "at most twice its predecessor"),
        ({"grids": (7, 14, 28)}, "grid 28 is finer than the stem's map of 14"),
        ({"image_size": 27}, "27 is not divisible by the stem's stride 2"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive"),
        ({"norm_eps": 0.0}, "norm_eps must be positive"),
        ({"image_size": 29, "embedding": PatchEmbeddingConfig()}, "odd padding"),
        (_stem(channels=(4,), strides=(2, 1)), "as many channels as strides"),
        (_stem(channels=(0,)), "stem sizes must be positive"),
        (_stem(channels=(4, 4), strides=(2, 1), blocks=(1,)), r"blocks for each of its 2 convolutions, got \(1,\)"),
        (_stem(blocks=(-1,)), r"blocks must not be negative: \(-1,\)"),
        (_stem(stage_blocks=(1, 1)), r"stage_blocks needs a number for each of the 4 stages, got \(1, 1\)"),
        (_stem(stage_blocks=(0, 1, -2, 1)), r"blocks must not be negative: \(0, 1, -2, 1\)"),
        (_stem(unshuffle=4), "unshuffle must divide the map's side 14, got 4"),
        (_stem(unshuffle=0), "unshuffle must divide the map's side 14, got 0"),
        ({"positions": "rotary"}, "positions must be learned or sinusoid, got 'rotary'"),
        ({"embedding": TokensToTokenConfig(token_dim=0)}, "must be positive, got 0 and 32"),
        ({"embedding": TokensToTokenConfig()}, "grid 2 has no first split"),
        ({"embedding": TokensToTokenConfig(first_splits=((2, 7, 0, 2),))}, "grid 2 needs positive kernel and stride"),
        ({"embedding": TokensToTokenConfig(first_splits=((2, 3, 1, 1),))}, "28 gives 28 -> 14 -> 7 tokens.*not grid 2"),
    ],
)
def test_cascade_config_invalid_raises_naming_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_reuse_configs_nonpositive_raise() -> None:
    with pytest.raises(ConfigError, match="feature reuse"):
        FeatureReuseConfig(hidden_dim=0)
    with pytest.raises(ConfigError, match="expansion"):
        RelationReuseConfig(expansion=0)


def test_cascade_config_plain_is_one_stage_without_reuse_and_may_be_coarse() -> None:
    plain = TINY.plain()
    assert (plain.grids, plain.feature_reuse, plain.relation_reuse) == ((14,), None, None)
    assert plain.num_tokens(0) == 197
    assert replace(plain, grids=(2, 14)).num_stages == 2


@pytest.mark.parametrize(
    ("stage_blocks", "origins"),
    [((), (0, 0, 0, 0)), ((1, 0, 0, 0), (0, 0, 0, 0)), ((0, 1, 0, 2), (0, 1, 1, 3))],
)
def test_cascade_config_map_origins_are_the_stages_that_deepened_it(
    stage_blocks: tuple[int, ...], origins: tuple[int, ...]
) -> None:
    assert replace(TINY, **_stem(stage_blocks=stage_blocks)).map_origins == origins
    assert replace(TINY, embedding=PatchEmbeddingConfig()).map_origins == (0, 0, 0, 0)


@pytest.mark.parametrize(("grid", "blocks"), [(2, 0), (7, 1), (10, 3)])
def test_cascade_config_plain_has_a_map_as_deep_as_the_stage_at_its_grid(grid: int, blocks: int) -> None:
    assert DEEP.plain(grid).embedding == replace(DEEP.embedding, stage_blocks=(blocks,))


def test_cascade_config_at_other_grids_deepens_as_the_first_stages_did() -> None:
    assert DEEP.at((4, 7)) == replace(DEEP, grids=(4, 7), embedding=replace(DEEP.embedding, stage_blocks=(0, 1)))
    assert DEEP.at(DEEP.grids) == DEEP
    assert TINY_T2T.at((4, 7)).grids == (4, 7)
    with pytest.raises(ConfigError, match=r"for each of the 5 stages, got \(0, 1, 0, 2\)"):
        DEEP.at((1, 2, 4, 7, 14))
