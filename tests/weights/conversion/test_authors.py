from dataclasses import replace
from fnmatch import fnmatch

import pytest
import torch
from cascades import randomised

from models.cascade import Cascade
from models.config import VARIANTS, FeatureReuseConfig, RelationReuseConfig, TokensToTokenConfig
from weights.conversion.authors import authors_architecture, authors_cascade, authors_name, mlp_ratio
from weights.conversion.foreign import Checkpoint, ConversionError

SIZES = {
    "embed_dim": 12,
    "depth": 2,
    "num_heads": 3,
    "num_classes": 5,
    "mlp_ratio": 2.0,
    "feature_reuse": FeatureReuseConfig(hidden_dim=8, out_dim=4),
    "relation_reuse": RelationReuseConfig(expansion=2),
}
DEIT = replace(VARIANTS["dvt_deit_small"], image_size=56, **SIZES)
T2T = replace(VARIANTS["dvt_t2t_vit_12"], embedding=TokensToTokenConfig(token_dim=8, num_features=3), **SIZES)
CONFIGS = {
    "deit": DEIT,
    "t2t": T2T,
    "no_reuse": replace(T2T, feature_reuse=None, relation_reuse=None),
}


def _checkpoint(cascade: Cascade) -> Checkpoint:
    return Checkpoint({authors_name(key): value for key, value in cascade.state_dict().items()}, {}, "")


@pytest.mark.parametrize("name", CONFIGS)
def test_authors_cascade_has_the_inferred_architecture_and_every_tensor_in_its_place(name: str) -> None:
    config = CONFIGS[name]
    original = randomised(config)
    checkpoint = _checkpoint(original)
    assert authors_architecture(checkpoint, None if config.relation_reuse else config.num_heads) == config
    converted = authors_cascade(checkpoint, config)
    assert not converted.training
    for key, value in original.state_dict().items():
        assert torch.equal(converted.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "heads", "message"),
    [
        ("no_reuse", None, "--heads"),
        ("deit", 4, "channels of 3 heads, --heads says 4"),
        ("no_reuse", 5, "embed_dim 12 is not divisible by num_heads 5"),
    ],
)
def test_authors_architecture_missing_or_wrong_heads_raise(name: str, heads: int | None, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        authors_architecture(_checkpoint(Cascade(CONFIGS[name])), heads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"less_less_token.cls_token": None}, "expected a tensor 'less_less_token.cls_token', found less_less_token"),
        ({"less_less_token.cls_token": torch.zeros(12)}, "expected 3 dimensions, none of them 0, found .12."),
        ({"less_token.relation_reuse_conv.0.weight": torch.zeros(10, 5, 1, 1)}, "of the depth 2, found 5 -> 10"),
        ({"*.blocks.*": None}, r"expected tensors named less_less_token\.blocks\.0"),
    ],
)
def test_authors_architecture_unreadable_tensor_raises(changes: dict[str, torch.Tensor | None], message: str) -> None:
    ((pattern, value),) = changes.items()
    tensors = {key: old for key, old in _checkpoint(Cascade(DEIT)).tensors.items() if not fnmatch(key, pattern)}
    with pytest.raises(ConversionError, match=message):
        authors_architecture(Checkpoint(tensors if value is None else {**tensors, pattern: value}, {}, ""))


def test_authors_cascade_other_tensors_raises_naming_each_kind() -> None:
    tensors = _checkpoint(Cascade(DEIT)).tensors
    tensors["normal_token.extra"] = torch.zeros(3)
    tensors["less_token.head.bias"] = torch.zeros(6)
    del tensors["normal_token.norm.weight"]
    with pytest.raises(ConversionError) as raised:
        authors_cascade(Checkpoint(tensors, {}, ""), DEIT)
    assert "1 missing (normal_token.norm.weight [12])" in str(raised.value)
    assert "1 not expected (normal_token.extra [3])" in str(raised.value)
    assert "1 of another shape (less_token.head.bias: expected [5], found [6])" in str(raised.value)


def test_mlp_ratio_gives_the_hidden_width_back_for_every_size() -> None:
    for embed_dim in range(1, 60):
        assert all(int(embed_dim * mlp_ratio(embed_dim, hidden)) == hidden for hidden in range(1, 200))
