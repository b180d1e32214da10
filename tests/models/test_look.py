import pytest
import torch
from cascades import TINY_LOOKS, randomised
from reference import reduced

from models import Cascade
from models.look import look_at


def _images(count: int = 2) -> torch.Tensor:
    side = TINY_LOOKS.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_look_at_half_precision_rounds_only_the_result() -> None:
    images = _images().bfloat16()
    found = look_at(images, 28)
    assert torch.equal(found, look_at(images.float(), 28).bfloat16())
    torch.testing.assert_close(found.float(), look_at(_images(), 28), atol=1e-2, rtol=1e-2)


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
