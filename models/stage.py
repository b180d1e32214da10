"""One stage: a Vision Transformer at one grid, with reuse from the stage before.

Shapes: B batch, N tokens of this stage, M tokens of the stage before, D embedding, K classes, R relation channels.
"""

from typing import NamedTuple

import torch
from einops import repeat
from torch import Tensor, nn

from models.config import CascadeConfig
from models.embedded import Embedded
from models.embedding import build_embedding
from models.layers import Block
from models.reuse import FeatureReuse, RelationReuse, ReuseState


class StageOutput(NamedTuple):
    """Result of one stage for a batch.

    Attributes:
        logits: [B, K].
        state: what the next stage reuses; None at the last stage.
    """

    logits: Tensor
    state: ReuseState | None


class Stage(nn.Module):
    """A Vision Transformer at `config.grids[index]` with its exit.

    Source: the backbone is arXiv 2010.11929, section 3.1; reuse is arXiv 2105.15075, section 3.2.
    """

    def __init__(self, config: CascadeConfig, index: int) -> None:
        super().__init__()
        self.is_last = index == config.num_stages - 1
        self.hands_on_tokens = config.feature_reuse is not None and not self.is_last
        self.hands_on_relations = config.relation_reuse is not None and not self.is_last
        self.hands_on_logits = config.logit_reuse and not self.is_last

        dim, grid = config.embed_dim, config.grids[index]
        self.embedding = build_embedding(config, index)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, config.num_tokens(index), dim), requires_grad=config.positions == "learned"
        )

        self.feature_reuse: nn.ModuleList | None = None
        self.relation_reuse: RelationReuse | None = None
        reused_dim = 0
        if index > 0:
            source = config.grids[index - 1]
            if config.feature_reuse is not None:
                reused_dim = config.feature_reuse.out_dim
                self.feature_reuse = nn.ModuleList(
                    FeatureReuse(config, config.feature_reuse, source, grid) for _ in range(config.depth)
                )
            if config.relation_reuse is not None:
                self.relation_reuse = RelationReuse(config, config.relation_reuse, source, grid)

        self.blocks = nn.ModuleList(Block(config, reused_dim) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.head = nn.Linear(dim, config.num_classes)
        self.pooled_head = nn.Linear(config.pooled_dim, config.num_classes) if config.pooled_dim else None
        # Calibration sets this share on held-out images; training images would overstate it.
        self.logit_share = nn.Parameter(torch.zeros(()), requires_grad=False) if config.logit_reuse and index else None

    def forward(self, source: Tensor, upstream: ReuseState | None = None) -> StageOutput:
        """Classify a batch at this stage.

        Args:
            source: the input of the embedding: an image, or the stem's feature map.
            upstream: the reuse state of the stage before; required when this stage reuses anything.

        Shape: source [B, C, side, side] -> logits [B, K]; the state has no feature map; the cascade adds it.

        Raises:
            ValueError: when something this stage reuses is missing from `upstream`.
        """
        return self.classify(self.embedding(source), upstream)

    def classify(self, embedded: Embedded, upstream: ReuseState | None = None) -> StageOutput:
        """Classify images that are embedded already.

        Raises:
            ValueError: as `forward`.
        """
        patches_BND, pooled_BF = embedded
        cls_token = repeat(self.cls_token, "1 1 d -> b 1 d", b=patches_BND.shape[0])
        x_BND = torch.cat([cls_token, patches_BND], dim=1) + self.pos_embed

        upstream_BMD = _required(upstream, "tokens") if self.feature_reuse is not None else None
        biases = None
        if self.relation_reuse is not None:
            biases = self.relation_reuse(_required(upstream, "relations"))

        relations = []
        for layer, block in enumerate(self.blocks):
            # The exit reads only the class token of the last block; the next stage reads all tokens or none.
            class_token_only = layer == len(self.blocks) - 1 and not self.hands_on_tokens
            reused_BNF = None
            if self.feature_reuse is not None:
                reused_BNF = self.feature_reuse[layer](upstream_BMD, class_token_only=class_token_only)
            x_BND, relations_BHNN = block(
                x_BND,
                reused_BNF,
                biases[layer] if biases is not None else None,
                class_token_only=class_token_only,
                return_relations=self.hands_on_relations,
            )
            relations.append(relations_BHNN)

        logits = self.head(self.norm(x_BND[:, 0]))
        if self.pooled_head is not None:
            logits = logits + self.pooled_head(pooled_BF)
        if self.logit_share is not None:
            logits = logits + self.logit_share * _required(upstream, "logits")
        if self.is_last:
            return StageOutput(logits, None)
        state = ReuseState(
            tokens=x_BND if self.hands_on_tokens else None,
            relations=torch.cat(relations, dim=1) if self.hands_on_relations else None,
            logits=logits if self.hands_on_logits else None,
        )
        return StageOutput(logits, state)


def _required(upstream: ReuseState | None, name: str) -> Tensor:
    value: Tensor | None = getattr(upstream, name, None)
    if value is None:
        raise ValueError(f"this stage reuses the {name} of the stage before, and they were not given")
    return value
