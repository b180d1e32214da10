"""Every intermediate of the real modules, by the names of the reference data."""

import torch
from torch import Tensor

from models.cascade import Cascade
from models.reuse import ReuseState
from models.stage import Stage
from models.t2t import TokensToToken


def intermediates(cascade: Cascade, images: Tensor) -> list[dict[str, Tensor]]:
    """Run every stage module by module; the results must be those of the stage itself, bit for bit."""
    traced: list[dict[str, Tensor]] = []
    state = None
    for index, stage in enumerate(cascade.stages):
        assert isinstance(stage, Stage)
        steps = _of_stage(stage, images, state)
        output = cascade.forward_stage(index, images, state)
        assert torch.equal(steps["logits"], output.logits)
        state = output.state
        if state is not None and state.relations is not None:
            relations = torch.cat([steps[f"attn_logits.{layer}"] for layer in range(len(stage.blocks))], dim=1)
            assert torch.equal(relations, state.relations)
        traced.append(steps)
    return traced


def _of_stage(stage: Stage, images: Tensor, upstream: ReuseState | None) -> dict[str, Tensor]:
    steps = {"embed": stage.embedding(images)}
    if isinstance(stage.embedding, TokensToToken):
        steps["t2t_perf1"], steps["t2t_perf2"], _ = stage.embedding.layers(images)
    cls_token = stage.cls_token.expand(len(images), -1, -1)
    x = steps["block_in"] = torch.cat([cls_token, steps["embed"]], dim=1) + stage.pos_embed
    biases = None
    if stage.relation_reuse is not None:
        biases = stage.relation_reuse(upstream.relations)
        steps["relation_conv_out"] = torch.cat([bias.relations_BHMM for bias in biases], dim=1)
    for layer, block in enumerate(stage.blocks):
        features = bias = None
        if stage.feature_reuse is not None:
            features = steps[f"reused_feature.{layer}"] = stage.feature_reuse[layer](upstream.tokens)
        if biases is not None:
            bias = biases[layer]
            steps[f"relation_bias.{layer}"] = bias.resampling_NM @ bias.relations_BHMM @ bias.resampling_NM.T
        x, steps[f"attn_logits.{layer}"] = block(x, features, bias, return_relations=True)
        steps[f"block_out.{layer}"] = x
    return steps | {"tokens": x, "logits": stage.head(stage.norm(x[:, 0]))}
