"""The multiply-accumulates (MACs) that the forward pass executes for one image, in closed form.

One MAC per multiply-accumulate of a convolution or matrix product. Not counted: biases, norms, softmax, GELU,
additions, scaling. The sums equal half of PyTorch's FLOP counter on the real forward, exactly. The papers count
differently: see `paper_macs`.
"""

from dataclasses import astuple, dataclass
from math import ceil

from models.config import (
    CascadeConfig,
    HybridEmbeddingConfig,
    LookConfig,
    PatchEmbeddingConfig,
    TokensToTokenConfig,
    TrunkEmbeddingConfig,
)
from models.embedding import map_geometry, patch_geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMacs:
    """MACs of one stage for one image, by part.

    A last block whose tokens no stage reuses computes the class token only.

    Attributes:
        embedding: the stage's patch projection or tokens-to-token layers, the residual blocks it applies to the
            map, and at stage 0 the stem that all stages share.
        attention_linear: qkv and output projections.
        attention_matmul: q kᵀ and attention times v.
        feature_mlp: the blocks' MLPs on the upstream tokens.
        feature_resampling: their resampling to this grid as a matrix product.
        relation_mlp: the joint MLP on the upstream relations.
        relation_resampling: V R, and the extra columns of [q | V R] [k | V]ᵀ.
    """

    embedding: int
    attention_linear: int
    attention_matmul: int
    block_mlp: int
    head: int
    feature_mlp: int = 0
    feature_resampling: int = 0
    relation_mlp: int = 0
    relation_resampling: int = 0

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(astuple(self))


def stage_macs(config: CascadeConfig) -> tuple[StageMacs, ...]:
    """MACs of each stage, given that the stages before it ran."""
    return tuple(
        _stage(config, index, class_token_only=index == config.num_stages - 1 or config.feature_reuse is None)
        for index in range(config.num_stages)
    )


def paper_macs(config: CascadeConfig) -> tuple[int, ...]:
    """Each stage's cost as the papers' tables count it; the code here executes less or more.

    The papers count every token of the last block, even where only the class token is read. They do not count the two
    resamplings, because they resample by pooling.

    Source: the costs stored with the checkpoints of arXiv 2105.15075.
    """
    counts = [_stage(config, index, class_token_only=False) for index in range(config.num_stages)]
    return tuple(count.total - count.feature_resampling - count.relation_resampling for count in counts)


def baseline_macs(config: CascadeConfig) -> int:
    """MACs of one plain ViT at the last grid with the same embedding, without reuse."""
    return stage_macs(config.plain())[0].total


def _stage(config: CascadeConfig, index: int, *, class_token_only: bool) -> StageMacs:
    """MACs of a stage whose last block computes all tokens or only the class token."""
    n, d, heads, hidden = config.num_tokens(index), config.embed_dim, config.num_heads, config.mlp_hidden_dim
    # Sums over all blocks: all tokens, tokens whose result is read, tokens whose queries are computed.
    read = all_tokens = config.depth * n
    if class_token_only:
        read -= n - 1
    hands_on_relations = config.relation_reuse is not None and index < config.num_stages - 1
    asking = all_tokens if hands_on_relations else read
    reused_dim = feature_mlp = feature_resampling = relation_mlp = relation_resampling = 0
    if index > 0:
        m, r = config.num_tokens(index - 1), config.num_relations
        if config.feature_reuse is not None:
            reused_dim = config.feature_reuse.out_dim
            blocks = config.depth - class_token_only
            feature_mlp = blocks * m * config.feature_reuse.hidden_dim * (d + reused_dim)
            feature_resampling = blocks * n * m * reused_dim
        if config.relation_reuse is not None:
            relation_mlp = 2 * config.relation_reuse.expansion * r * r * m * m
            relation_resampling = asking * heads * m * (m + n)
    return StageMacs(
        embedding=_embedding(config, index) + _deepening(config, index) + (_stem(config) if index == 0 else 0),
        attention_linear=(asking + 2 * all_tokens + read) * d * d,
        attention_matmul=(asking + read) * n * d,
        block_mlp=read * hidden * (2 * d + reused_dim),
        head=(d + config.pooled_dim) * config.num_classes,
        feature_mlp=feature_mlp,
        feature_resampling=feature_resampling,
        relation_mlp=relation_mlp,
        relation_resampling=relation_resampling,
    )


def _embedding(config: CascadeConfig, index: int) -> int:
    grid = config.grids[index]
    match config.embedding:
        case PatchEmbeddingConfig():
            kernel = patch_geometry(config.image_size, grid)[0]
            return grid**2 * kernel**2 * 3 * config.embed_dim
        case HybridEmbeddingConfig() as hybrid:
            kernel = map_geometry(hybrid.map_size(config.image_size), grid)[0]
            return grid**2 * kernel**2 * hybrid.channels[-1] * config.embed_dim
        case TokensToTokenConfig() as t2t:
            return _tokens_to_token(t2t, config, grid)
        case TrunkEmbeddingConfig() as trunk:
            return _look(trunk.looks[index], grid, config.embed_dim)


def _look(look: LookConfig, grid: int, dim: int) -> int:
    trunk, side = look.trunk, ceil(look.px / 2)
    macs = side**2 * 9 * 3 * trunk.stem_channels
    for block in trunk.blocks():
        width = block.in_channels * block.expansion
        widening = side**2 * block.in_channels * width if block.expansion > 1 else 0
        side = ceil(side / block.stride)
        macs += widening + side**2 * width * (block.kernel**2 + block.out_channels)
    macs += side**2 * block.out_channels * trunk.head_channels
    for channels, cells in look.maps():
        macs += cells**2 * channels * dim
        macs += grid**2 * cells**2 * dim if cells != grid else 0
    return macs


def _tokens_to_token(t2t: TokensToTokenConfig, config: CascadeConfig, grid: int) -> int:
    dim, features, in_channels, macs = t2t.token_dim, t2t.num_features, 3, 0
    *performer_sides, _ = t2t.sides(config.image_size, grid)
    for side, split in zip(performer_sides, t2t.splits(grid), strict=False):
        linear = 3 * dim * split.kernel**2 * in_channels + 3 * dim * dim
        attention = 4 * features * dim + features
        macs += side * side * (linear + attention)
        in_channels = dim
    return macs + grid**2 * t2t.splits(grid)[-1].kernel ** 2 * dim * config.embed_dim


def _deepening(config: CascadeConfig, index: int) -> int:
    if not isinstance(config.embedding, HybridEmbeddingConfig):
        return 0
    side, unshuffle = config.embedding.map_size(config.image_size), config.embedding.unshuffle
    channels = config.embedding.channels[-1] * unshuffle**2
    return config.embedding.deepened_by(index) * 2 * (side // unshuffle) ** 2 * 9 * channels**2


def _stem(config: CascadeConfig) -> int:
    if not isinstance(config.embedding, HybridEmbeddingConfig):
        return 0
    macs, side = 0, config.image_size
    for in_channels, channels, stride, blocks in config.embedding.layers():
        side //= stride
        macs += side * side * 9 * channels * (in_channels + 2 * blocks * channels)
    return macs
