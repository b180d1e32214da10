from dataclasses import replace

import pytest
import torch
from cascades import PLAIN_VIT, randomised, timm_weights

from models.cascade import Cascade
from models.config import PatchEmbeddingConfig
from weights.conversion.foreign import Checkpoint, ConversionError
from weights.conversion.vit_init import initial_cascade, resample_patch, resample_positions, vit_architecture


def _checkpoint(vit: Cascade) -> Checkpoint:
    return Checkpoint(timm_weights(vit), {}, "")


@pytest.fixture(scope="module")
def vit() -> Cascade:
    return randomised(PLAIN_VIT)


@pytest.fixture(scope="module")
def cascade(vit: Cascade) -> Cascade:
    """What starts as the ViT; not to be changed."""
    checkpoint = _checkpoint(vit)
    return initial_cascade(checkpoint, vit_architecture(checkpoint, heads=3))


def test_vit_architecture_is_our_family_with_the_vit_s_sizes(vit: Cascade) -> None:
    config = vit_architecture(_checkpoint(vit), heads=3)
    assert (config.grids, config.image_size, config.embedding) == ((2, 4, 7, 14), 56, PatchEmbeddingConfig())
    assert config.plain() == PLAIN_VIT
    assert config.feature_reuse is not None
    assert config.relation_reuse is not None


def test_initial_cascade_last_exit_answers_nearly_like_the_vit() -> None:
    vit = randomised(replace(PLAIN_VIT, embed_dim=192))
    checkpoint = _checkpoint(vit)
    cascade = initial_cascade(checkpoint, vit_architecture(checkpoint, heads=3))
    images = torch.randn(4, 3, 56, 56, generator=torch.Generator().manual_seed(1))

    def error() -> float:
        (expected,), found = vit(images), cascade(images)[-1]
        return float((found - expected).norm() / expected.norm())

    with torch.inference_mode():
        corrected = error()
        for block in cascade.stages[-1].blocks:
            block.norm2.weight[:192] *= (240 / 192) ** 0.5
        assert corrected < 0.05
        assert corrected < error() / 2


def test_initial_cascade_other_stages_have_the_blocks_and_resampled_embeddings(vit: Cascade, cascade: Cascade) -> None:
    first, own = cascade.stages[0], vit.stages[0]
    assert torch.equal(first.blocks[1].attn.qkv.weight, own.blocks[1].attn.qkv.weight)
    assert torch.equal(first.head.weight, own.head.weight)
    assert torch.equal(first.embedding.proj.weight, resample_patch(own.embedding.proj.weight, 28))
    assert torch.equal(first.pos_embed, resample_positions(own.pos_embed, 2))


def test_initial_cascade_is_the_same_every_time_and_refuses_an_extra_token(vit: Cascade, cascade: Cascade) -> None:
    before, checkpoint = torch.random.get_rng_state(), _checkpoint(vit)
    other = initial_cascade(checkpoint, cascade.config).state_dict()
    assert all(torch.equal(value, other[key]) for key, value in cascade.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)
    checkpoint.tensors["dist_token"] = torch.zeros(1, 1, 24)
    with pytest.raises(ConversionError, match=r"1 not expected \(dist_token \[1, 1, 24\]\)"):
        initial_cascade(checkpoint, cascade.config)


def test_resample_patch_answers_on_an_enlarged_patch_as_before_on_the_original() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64)
    patch = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    expected = torch.einsum("dchw,bchw->bd", weight, patch)
    for size in (4, 7, 28):
        enlarged = torch.nn.functional.interpolate(patch, size=size, mode="bilinear")
        found = torch.einsum("dchw,bchw->bd", resample_patch(weight, size), enlarged)
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_resample_positions_keeps_class_token_and_slope() -> None:
    rows = torch.linspace(0, 1, 14).repeat_interleave(14)
    positions = torch.cat([torch.tensor([9.0]), rows])[None, :, None]
    assert resample_positions(positions, 14) is positions
    found = resample_positions(positions, 4)[0, :, 0]
    assert found[0] == 9.0
    grid = found[1:].reshape(4, 4)
    torch.testing.assert_close(grid, grid[:, :1].expand(4, 4))
    assert (grid[1:, 0] > grid[:-1, 0]).all()


@pytest.mark.parametrize(
    ("grid", "heads", "message"),
    [
        (14, None, "--heads"),
        (14, 5, "not divisible by num_heads 5"),
        (7, 3, "expected 197 positions, 14x14 patches and a class token; found 50"),
    ],
)
def test_vit_architecture_that_cannot_be_raises(grid: int, heads: int | None, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        vit_architecture(_checkpoint(Cascade(replace(PLAIN_VIT, grids=(grid,)))), heads)
