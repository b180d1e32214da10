import pytest
import torch
from cascades import TINY, randomised

from models.reuse import FeatureReuse


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_feature_reuse_class_token_only_equals_its_row_of_all(dtype: torch.dtype) -> None:
    reuse = randomised(TINY).stages[2].feature_reuse[1].to(dtype)
    assert isinstance(reuse, FeatureReuse)
    upstream = torch.randn(3, TINY.num_tokens(1), TINY.embed_dim).to(dtype)
    every = reuse(upstream)
    assert every.shape == (3, TINY.num_tokens(2), 4)
    assert every[:, 1:].abs().sum(dim=-1).min() > 0
    alone = reuse(upstream, class_token_only=True)
    assert torch.equal(alone, every[:, :1])
    assert alone.dtype == dtype
