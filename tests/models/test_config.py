from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from cascades import TINY, TINY_T2T

from models.config import (
    VARIANTS,
    ConfigError,
    FeatureReuseConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    RelationReuseConfig,
    TokensToTokenConfig,
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
        (
            {"embedding": HybridEmbeddingConfig(channels=(4, 4), strides=(2, 1), blocks=(1,))},
            r"blocks for each of its 2 convolutions, got \(1,\)",
        ),
        (
            {"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2,), blocks=(-1,))},
            r"blocks must not be negative: \(-1,\)",
        ),
        (
            {"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2,), stage_blocks=(1, 1))},
            r"stage_blocks needs a number for each of the 4 stages, got \(1, 1\)",
        ),
        (
            {"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2,), stage_blocks=(0, 1, -2, 1))},
            r"blocks must not be negative: \(0, 1, -2, 1\)",
        ),
        (
            {"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2,), unshuffle=4)},
            "unshuffle must divide the map's side 14, got 4",
        ),
        (
            {"embedding": HybridEmbeddingConfig(channels=(4,), strides=(2,), unshuffle=0)},
            "unshuffle must divide the map's side 14, got 0",
        ),
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


@pytest.mark.parametrize(
    ("stage_blocks", "origins"),
    [((), (0, 0, 0, 0)), ((1, 0, 0, 0), (0, 0, 0, 0)), ((0, 1, 0, 2), (0, 1, 1, 3)), ((0, 1, 2, 2), (0, 1, 2, 3))],
)
def test_cascade_config_map_origins_are_the_stages_that_deepened_it(
    stage_blocks: tuple[int, ...], origins: tuple[int, ...]
) -> None:
    embedding = HybridEmbeddingConfig(channels=(4,), strides=(2,), stage_blocks=stage_blocks)
    assert replace(TINY, embedding=embedding).map_origins == origins


def test_cascade_config_map_origins_without_a_map_are_the_first_stage() -> None:
    assert replace(TINY, embedding=PatchEmbeddingConfig()).map_origins == (0, 0, 0, 0)


@pytest.mark.parametrize(("grid", "blocks"), [(2, 0), (4, 1), (7, 1), (14, 3), (10, 3)])
def test_cascade_config_plain_has_a_map_as_deep_as_the_stage_at_its_grid(grid: int, blocks: int) -> None:
    embedding = HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), stage_blocks=(0, 1, 0, 2))
    plain = replace(TINY, embedding=embedding).plain(grid)
    assert plain.embedding == replace(embedding, stage_blocks=(blocks,))


def test_cascade_config_at_other_grids_deepens_as_the_first_stages_did() -> None:
    embedding = HybridEmbeddingConfig(channels=(4, 6), strides=(2, 1), stage_blocks=(0, 1, 0, 2))
    deep = replace(TINY, embedding=embedding)
    assert deep.at((4, 7)) == replace(deep, grids=(4, 7), embedding=replace(embedding, stage_blocks=(0, 1)))
    assert deep.at(deep.grids) == deep
    assert TINY_T2T.at((4, 7)).grids == (4, 7)
    with pytest.raises(ConfigError, match=r"for each of the 5 stages, got \(0, 1, 0, 2\)"):
        deep.at((1, 2, 4, 7, 14))


def test_cascade_config_plain_t2t_keeps_the_split_of_the_last_grid() -> None:
    plain = TINY_T2T.plain()
    assert isinstance(plain.embedding, TokensToTokenConfig)
    assert plain.embedding.sides(plain.image_size, plain.grids[0]) == (28, 14, 7)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_the_grids_of_their_family(name: str) -> None:
    assert VARIANTS[name].grids == ((7, 10, 14) if name.startswith("dvt_") else (2, 4, 7, 14))


@pytest.mark.parametrize(("grid", "sides"), [(7, (28, 14, 7)), (10, (38, 19, 10)), (14, (56, 28, 14))])
def test_tokens_to_token_config_has_the_published_sides(grid: int, sides: tuple[int, int, int]) -> None:
    assert TokensToTokenConfig().sides(224, grid) == sides
