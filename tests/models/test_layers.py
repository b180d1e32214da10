from dataclasses import replace

import pytest
import torch
from cascades import TINY, randomised

from models.layers import Block, RelationBias
from models.resampling import token_resampling

UPSTREAM, GRID = 4, 7
NUM_TOKENS = GRID**2 + 1


def _block(dtype: torch.dtype, *, qkv_bias: bool) -> Block:
    block = randomised(replace(TINY, qkv_bias=qkv_bias)).stages[2].blocks[0]
    assert isinstance(block, Block)
    return block.to(dtype)


def _bias(dtype: torch.dtype) -> RelationBias:
    relations = torch.randn(2, TINY.num_heads, UPSTREAM**2 + 1, UPSTREAM**2 + 1)
    return RelationBias(relations.to(dtype), token_resampling(UPSTREAM, GRID, class_token=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("return_relations", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_block_class_token_only_equals_its_row_of_all(
    qkv_bias: bool, has_bias: bool, return_relations: bool, dtype: torch.dtype, tolerance: float
) -> None:
    block, bias = _block(dtype, qkv_bias=qkv_bias), _bias(dtype) if has_bias else None
    x, reused = torch.randn(2, NUM_TOKENS, TINY.embed_dim).to(dtype), torch.randn(2, NUM_TOKENS, 4).to(dtype)
    every = block(x, reused, bias, return_relations=True)
    alone = block(x, reused[:, :1], bias, class_token_only=True, return_relations=return_relations)
    torch.testing.assert_close(alone.tokens_BND, every.tokens_BND[:, :1], atol=tolerance, rtol=0)
    if return_relations:
        assert torch.equal(alone.relations_BHNN, every.relations_BHNN)
    else:
        assert alone.relations_BHNN is None


def test_block_class_token_only_still_sees_every_token() -> None:
    block = _block(torch.float64, qkv_bias=True)
    x = torch.randn(1, NUM_TOKENS, TINY.embed_dim, dtype=torch.float64, requires_grad=True)
    block(x, torch.zeros(1, 1, 4, dtype=torch.float64), class_token_only=True).tokens_BND.sum().backward()
    assert x.grad.abs().sum(dim=-1).min() > 0
