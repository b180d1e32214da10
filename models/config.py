"""The architecture of a cascade as one frozen, validated value, and its named variants."""

from dataclasses import dataclass, field, replace
from typing import Literal

from models.embedding_config import (
    EmbeddingConfig,
    HybridEmbeddingConfig,
    PatchEmbeddingConfig,
    TokensToTokenConfig,
)
from models.errors import ConfigError, require
from models.trunk_config import LookConfig, TrunkConfig, TrunkEmbeddingConfig

__all__ = [
    "VARIANTS",
    "CascadeConfig",
    "ConfigError",
    "EmbeddingConfig",
    "FeatureReuseConfig",
    "HybridEmbeddingConfig",
    "LookConfig",
    "PatchEmbeddingConfig",
    "RelationReuseConfig",
    "TokensToTokenConfig",
    "TrunkConfig",
    "TrunkEmbeddingConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReuseConfig:
    """Sizes of each block's MLP on the upstream tokens.

    Attributes:
        hidden_dim: its hidden width.
        out_dim: channels concatenated to the block's MLP input.
    """

    hidden_dim: int = 128
    out_dim: int = 48

    def __post_init__(self) -> None:
        require(min(self.hidden_dim, self.out_dim) > 0, f"feature reuse sizes must be positive: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationReuseConfig:
    """Size of the joint MLP on the upstream relations.

    Attributes:
        expansion: hidden channels as a multiple of depth x num_heads.
    """

    expansion: int = 3

    def __post_init__(self) -> None:
        require(self.expansion > 0, f"relation reuse expansion must be positive: {self.expansion}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeConfig:
    """A cascade: one Vision Transformer per grid, all of the same width and depth.

    Attributes:
        image_size: side of the square input in pixels.
        grids: tokens per side of each stage, increasing.
        mlp_ratio: hidden width of a block's MLP as a multiple of `embed_dim`.
        positions: learned position embeddings, or a fixed table of sines.
        feature_reuse: None switches feature reuse off.
        relation_reuse: None switches relation reuse off.
        logit_reuse: whether an exit adds a share of the previous exit's logits; calibration chooses the share.
    """

    image_size: int
    num_classes: int
    embed_dim: int
    depth: int
    num_heads: int
    grids: tuple[int, ...] = (2, 4, 7, 14)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    norm_eps: float = 1e-6
    positions: Literal["learned", "sinusoid"] = "learned"
    embedding: EmbeddingConfig = field(default_factory=PatchEmbeddingConfig)
    feature_reuse: FeatureReuseConfig | None = field(default_factory=FeatureReuseConfig)
    relation_reuse: RelationReuseConfig | None = field(default_factory=RelationReuseConfig)
    logit_reuse: bool = False

    def __post_init__(self) -> None:
        for name in ("image_size", "num_classes", "embed_dim", "depth", "num_heads"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        require(len(self.grids) > 0 and self.grids[0] > 0, f"grids must be positive, got {self.grids}")
        require(
            all(a < b for a, b in zip(self.grids, self.grids[1:], strict=False)),
            f"grids must increase from stage to stage, got {self.grids}",
        )
        # Resampling doubles the upstream grid, then averages: the next grid may be at most twice as fine.
        require(
            all(b <= 2 * a for a, b in zip(self.grids, self.grids[1:], strict=False))
            or (self.feature_reuse is None and self.relation_reuse is None),
            f"with reuse, a grid is at most twice its predecessor, got {self.grids}",
        )
        require(
            self.embed_dim % self.num_heads == 0,
            f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}",
        )
        require(self.mlp_ratio > 0, f"mlp_ratio must be positive, got {self.mlp_ratio}")
        require(self.norm_eps > 0, f"norm_eps must be positive, got {self.norm_eps}")
        require(
            self.positions in ("learned", "sinusoid"), f"positions must be learned or sinusoid, got {self.positions!r}"
        )
        self.embedding.validate(self.image_size, self.grids)

    @property
    def num_stages(self) -> int:
        """How many stages, and so exits, there are."""
        return len(self.grids)

    @property
    def mlp_hidden_dim(self) -> int:
        """Hidden width of a block's MLP."""
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def num_relations(self) -> int:
        """Channels of a stage's relations: depth x num_heads."""
        return self.depth * self.num_heads

    @property
    def map_origins(self) -> tuple[int, ...]:
        """For each stage, the index of the stage that produced the feature map it reads."""
        origins = [0]
        for stage in range(1, self.num_stages):
            deepens = isinstance(self.embedding, HybridEmbeddingConfig) and self.embedding.deepened_by(stage) > 0
            origins.append(stage if deepens else origins[-1])
        return tuple(origins)

    def side_px(self, stage: int) -> int:
        """Side in pixels of the images a stage reads: that of its look, or the full image."""
        return self.embedding.looks[stage].px if isinstance(self.embedding, TrunkEmbeddingConfig) else self.image_size

    def num_tokens(self, stage: int) -> int:
        """Tokens of a stage, class token included."""
        return self.grids[stage] ** 2 + 1

    def at(self, grids: tuple[int, ...]) -> "CascadeConfig":
        """The same cascade at other grids. Stage k deepens the map as stage k of this cascade; a grid keeps its look.

        Raises:
            ConfigError: when the result is invalid, when stages deepen the map and there are more stages than here, or
                when a grid has no look.
        """
        embedding = self.embedding
        if isinstance(embedding, HybridEmbeddingConfig):
            embedding = replace(embedding, stage_blocks=embedding.stage_blocks[: len(grids)])
        elif isinstance(embedding, TrunkEmbeddingConfig):
            embedding = replace(embedding, looks=tuple(self._look(grid) for grid in grids))
        return replace(self, grids=grids, embedding=embedding)

    def plain(self, grid: int | None = None) -> "CascadeConfig":
        """The baseline: a single plain ViT at `grid` or the last one, same sizes, without reuse.

        It reads a map of the same depth and has the same look as the cascade's stage at that grid.

        Raises:
            ConfigError: when the embedding cannot make such a grid.
        """
        grid, embedding = grid or self.grids[-1], self.embedding
        if isinstance(embedding, HybridEmbeddingConfig) and embedding.stage_blocks:
            last = self.grids.index(grid) if grid in self.grids else self.num_stages - 1
            embedding = replace(embedding, stage_blocks=(sum(embedding.stage_blocks[: last + 1]),))
        elif isinstance(embedding, TrunkEmbeddingConfig):
            embedding = replace(embedding, looks=(self._look(grid),))
        return replace(
            self, grids=(grid,), embedding=embedding, feature_reuse=None, relation_reuse=None, logit_reuse=False
        )

    @property
    def is_convolutional(self) -> bool:
        """Whether the embedding contains convolutions before the tokens are cut."""
        return isinstance(self.embedding, HybridEmbeddingConfig | TrunkEmbeddingConfig)

    @property
    def pooled_dim(self) -> int:
        """Channels of the features that the embedding passes directly to the exit; 0 without such features."""
        embedding = self.embedding
        return embedding.looks[0].trunk.head_channels if isinstance(embedding, TrunkEmbeddingConfig) else 0

    def _look(self, grid: int) -> LookConfig:
        require(grid in self.grids, f"no stage looks with grid {grid}; the cascade has {self.grids}")
        assert isinstance(self.embedding, TrunkEmbeddingConfig)
        return self.embedding.looks[self.grids.index(grid)]


_STEM_56 = HybridEmbeddingConfig(
    channels=(32, 64), strides=(2, 2), blocks=(1, 1), stage_blocks=(0, 1, 1, 1), unshuffle=2
)
_STEM_224 = HybridEmbeddingConfig(channels=(24, 48, 96, 128), strides=(2, 2, 2, 2))

_LOOKS_224 = TrunkEmbeddingConfig(
    looks=(LookConfig(px=64), LookConfig(px=112), LookConfig(px=160), LookConfig(px=224, strides=(16, 32)))
)

_DVT_DEIT_SMALL = CascadeConfig(
    image_size=224, num_classes=1000, embed_dim=384, depth=12, num_heads=6, grids=(7, 10, 14)
)
_DVT_T2T_VIT_12 = CascadeConfig(
    image_size=224,
    num_classes=1000,
    embed_dim=256,
    depth=12,
    num_heads=4,
    grids=(7, 10, 14),
    mlp_ratio=2.0,
    qkv_bias=False,
    norm_eps=1e-5,
    positions="sinusoid",
    embedding=TokensToTokenConfig(),
)

VARIANTS: dict[str, CascadeConfig] = {
    "micro_56": CascadeConfig(
        image_size=56,
        num_classes=10,
        embed_dim=128,
        depth=4,
        num_heads=2,
        mlp_ratio=2.0,
        embedding=_STEM_56,
    ),
    "tiny_56": CascadeConfig(image_size=56, num_classes=10, embed_dim=192, depth=6, num_heads=3, embedding=_STEM_56),
    "small_224": CascadeConfig(
        image_size=224, num_classes=1000, embed_dim=384, depth=12, num_heads=6, embedding=_STEM_224
    ),
    "small_224_patch": CascadeConfig(image_size=224, num_classes=1000, embed_dim=384, depth=12, num_heads=6),
    "looks_224": CascadeConfig(
        image_size=224,
        num_classes=1000,
        embed_dim=128,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        embedding=_LOOKS_224,
        feature_reuse=FeatureReuseConfig(hidden_dim=64, out_dim=32),
        relation_reuse=RelationReuseConfig(expansion=2),
        logit_reuse=True,
    ),
    "dvt_deit_small": _DVT_DEIT_SMALL,
    "dvt_t2t_vit_12": _DVT_T2T_VIT_12,
    "dvt_t2t_vit_14": replace(_DVT_T2T_VIT_12, embed_dim=384, depth=14, num_heads=6, mlp_ratio=3.0),
}
"""Named architectures; change the number of classes with `dataclasses.replace`."""
