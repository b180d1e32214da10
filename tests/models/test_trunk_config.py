from dataclasses import replace
from typing import Any

import pytest
from cascades import TINY_LOOKS

from models.config import ConfigError, LookConfig, TrunkConfig, TrunkEmbeddingConfig

LITE1, LITE2 = TrunkConfig(depth=1.1), TrunkConfig(width=1.1, depth=1.2)


def test_blocks_deeper_and_wider_members_are_the_published_ones() -> None:
    lite1 = [16] + 3 * [24] + 3 * [40] + 4 * [80] + 4 * [112] + 5 * [192] + [320]
    lite2 = [16] + 3 * [24] + 3 * [48] + 4 * [88] + 4 * [120] + 5 * [208] + [352]
    assert [[block.out_channels for block in config.blocks()] for config in (LITE1, LITE2)] == [lite1, lite2]


@pytest.mark.parametrize(
    ("width", "last"),
    [(1.0, 320), (0.0125, 8), (0.0362, 16), (0.0374, 16), (0.26, 80), (0.29, 96)],
)
def test_blocks_channels_are_multiples_of_eight_and_lose_at_most_a_tenth(width: float, last: int) -> None:
    assert TrunkConfig(width=width).blocks()[-1].out_channels == last
    assert last >= 0.9 * width * 320


def test_last_block_at_stride_is_the_one_before_the_next_stride() -> None:
    assert [TrunkConfig().last_block_at(stride) for stride in (2, 4, 8, 16, 32)] == [0, 2, 4, 10, 15]
    with pytest.raises(ConfigError, match=r"maps at the strides \(2, 4, 8, 16, 32\), not 64"):
        TrunkConfig().last_block_at(64)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (TrunkConfig, {"width": 0.0}, "width and depth must be positive"),
        (TrunkConfig, {"stem_channels": 0}, "channels must be positive"),
        (LookConfig, {"px": 0}, "a look needs a positive side, got 0"),
        (LookConfig, {"px": 64, "strides": ()}, r"increasing ones of \(2, 4, 8, 16, 32\), got \(\)"),
        (LookConfig, {"px": 64, "strides": (16, 16)}, r"increasing ones .*, got \(16, 16\)"),
        (LookConfig, {"px": 64, "strides": (3,)}, r"increasing ones .*, got \(3,\)"),
    ],
)
def test_trunk_and_look_config_invalid_raise_naming_value_and_rule(
    kind: type, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**changes)


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ((LookConfig(px=32),), "each of the 3 stages needs a look, got 1"),
        (3 * (LookConfig(px=64),), "a look of 64 px is larger than image_size 63"),
        (3 * (LookConfig(px=32),), "grid 3 is more than twice as fine as the 1x1 map of a look of 32 px"),
        (
            (LookConfig(px=32), LookConfig(px=49), LookConfig(px=63, trunk=TrunkConfig(head_channels=64))),
            r"the same head_channels, got \(1280, 1280, 64\)",
        ),
    ],
)
def test_trunk_embedding_config_unfit_looks_raise_naming_value_and_rule(
    looks: tuple[LookConfig, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY_LOOKS, embedding=TrunkEmbeddingConfig(looks=looks))


def test_cascade_config_with_looks_keeps_each_grid_s_look() -> None:
    assert isinstance(TINY_LOOKS.embedding, TrunkEmbeddingConfig)
    looks = TINY_LOOKS.embedding.looks
    two, plain = TINY_LOOKS.at((2, 4)), TINY_LOOKS.plain(3)
    assert two.embedding == TrunkEmbeddingConfig(looks=(looks[0], looks[2]))
    assert (plain.grids, plain.embedding) == ((3,), TrunkEmbeddingConfig(looks=(looks[1],)))
    assert TINY_LOOKS.plain().pooled_dim == TINY_LOOKS.pooled_dim == 24
    assert [TINY_LOOKS.side_px(stage) for stage in range(3)] == [32, 49, 63]
    with pytest.raises(ConfigError, match=r"no stage looks with grid 7; the cascade has \(2, 3, 4\)"):
        TINY_LOOKS.plain(7)
