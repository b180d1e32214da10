import pytest
import torch
from cascades import TINY_LOOKS, randomised
from reference import reduced

from models import Cascade
from models.look import look_at


def _images(count: int = 2) -> torch.Tensor:
    side = TINY_LOOKS.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_look_at_own_size_is_the_image_itself(dtype: torch.dtype) -> None:
    images = torch.ones(1, 3, 9, 9, dtype=dtype)
    assert look_at(images, 9) is images


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
