import pytest
import torch
from cascades import TINY_LOOKS, randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reduced, resample_cells

from models import Cascade
from models.look import LookEmbedding, MapTokens, look_at
from models.trunk import TrunkOutput


def _images(count: int = 2) -> torch.Tensor:
    side = TINY_LOOKS.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def _embedding(stage: int) -> LookEmbedding:
    embedding = randomised(TINY_LOOKS).stages[stage].embedding
    assert isinstance(embedding, LookEmbedding)
    return embedding


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_look_at_own_size_is_the_image_itself(dtype: torch.dtype) -> None:
    images = torch.ones(1, 3, 9, 9, dtype=dtype)
    assert look_at(images, 9) is images


@given(side=st.integers(2, 40), px=st.integers(1, 40), value=st.floats(-4, 4, width=16))
@settings(max_examples=40, deadline=None)
def test_look_at_constant_images_stay_constant(side: int, px: int, value: float) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3)):
        small = look_at(torch.full((1, 3, side, side), value, dtype=dtype), px)
        assert (small.shape, small.dtype) == ((1, 3, px, px), dtype)
        assert (small.double() - value).abs().max() <= tolerance


@pytest.mark.parametrize("px", [1, 16, 28, 31, 62])
def test_look_at_smaller_equals_a_triangle_filter(px: int) -> None:
    images = _images().double()
    torch.testing.assert_close(look_at(images, px), reduced(images, px), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_look_at_half_precision_rounds_only_the_result(dtype: torch.dtype, tolerance: float) -> None:
    images = _images().to(dtype)
    found = look_at(images, 28)
    assert found.dtype == dtype
    assert torch.equal(found, look_at(images.float(), 28).to(dtype))
    torch.testing.assert_close(found.float(), look_at(_images(), 28), atol=tolerance, rtol=tolerance)


def test_look_at_bytes_stay_bytes_within_one_step_of_the_exact_mean() -> None:
    pixels = torch.randint(0, 256, (2, 3, 63, 63), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    small = look_at(pixels, 28)
    assert small.dtype == torch.uint8
    assert (small.double() - reduced(pixels.double(), 28)).abs().max() <= 1


@pytest.mark.parametrize(("side", "grid"), [(2, 3), (3, 2), (4, 4)])
def test_map_tokens_are_projected_cells_resampled_in_raster_order(side: int, grid: int) -> None:
    cut = MapTokens(5, side, grid, 7, norm_eps=1e-6).double()
    x = torch.randn(2, 5, side, side, dtype=torch.float64)
    cells = cut.proj(cut.norm(x.flatten(2).transpose(1, 2)))
    torch.testing.assert_close(cut(x), resample_cells(cells, side, grid), atol=1e-12, rtol=0)
    assert (cut.resampling is None) == (side == grid)


@torch.no_grad()
def test_look_embedding_tokens_are_the_sum_over_its_maps() -> None:
    embedding = _embedding(2).double()
    seen = embedding.trunk(_images().double())
    parts = [cut(x) for cut, x in zip(embedding.tokens, seen.maps, strict=True)]
    assert [tuple(part.shape) for part in parts] == [(2, 16, 12)] * 2
    embedded = embedding.embed(seen)
    torch.testing.assert_close(embedded.tokens_BND, torch.stack(parts).sum(dim=0), atol=1e-12, rtol=0)
    assert embedded.features_BF is seen.pooled


@pytest.mark.parametrize("stage", range(3))
@torch.no_grad()
def test_look_embedding_of_images_equals_that_of_what_the_trunk_has_seen(stage: int) -> None:
    embedding, images = _embedding(stage), _images()
    seen = embedding.trunk(look_at(images, TINY_LOOKS.side_px(stage)))
    assert isinstance(seen, TrunkOutput)
    for found, expected in zip(embedding(images), embedding.embed(seen), strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
def test_stage_with_looks_starts_with_the_logits_of_its_pooled_head_alone() -> None:
    cascade, images, state = Cascade(TINY_LOOKS).eval(), _images(), None
    for index, stage in enumerate(cascade.stages):
        features = stage.embedding(images).features_BF
        assert features.shape == (2, TINY_LOOKS.pooled_dim)
        output = cascade.forward_stage(index, images, state)
        assert torch.equal(output.logits, stage.pooled_head(features))
        assert output.logits.abs().max() > 0
        state = output.state


@torch.no_grad()
def test_forward_stage_images_at_the_stage_s_own_side_equal_full_ones() -> None:
    cascade, images, state = randomised(TINY_LOOKS), _images(), None
    for stage in range(3):
        small = look_at(images, TINY_LOOKS.side_px(stage))
        output = cascade.forward_stage(stage, images, state)
        assert torch.equal(cascade.forward_stage(stage, small, state).logits, output.logits)
        state = output.state
    with pytest.raises(ValueError, match=r"\[B, 3, 63, 63\] or \[B, 3, 32, 32\], got \(1, 3, 49, 49\)"):
        cascade.forward_stage(0, torch.zeros(1, 3, 49, 49))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.5), (torch.float64, 1e-4)])
@torch.no_grad()
def test_cascade_with_looks_runs_in_other_precisions(dtype: torch.dtype, tolerance: float) -> None:
    cascade = randomised(TINY_LOOKS)
    expected = cascade(_images())[-1]
    found = cascade.to(dtype)(_images().to(dtype))[-1]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)
