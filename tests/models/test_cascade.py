from dataclasses import replace

import pytest
import torch
from cascades import TINY, TINY_CONFIGS, TINY_LOOKS, TINY_T2T, randomised
from reference import reference_forward

from models import Cascade, CascadeConfig, ReuseState
from models.embedding import sinusoid_positions


def _images(config: CascadeConfig, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1))


def _same(found: torch.Tensor | None, expected: torch.Tensor) -> None:
    if found is not None:
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_forward_equals_plain_reference_stage_by_stage_and_row_by_row(tiny_cascade: Cascade) -> None:
    cascade, config = tiny_cascade.double(), tiny_cascade.config
    images = _images(config, 3).double()
    logits, alone, state = cascade(images), cascade(images[1:2]), None
    assert len(logits) == config.num_stages
    for stage, reference in enumerate(reference_forward(cascade.state_dict(), config, images)):
        output = cascade.forward_stage(stage, images, state)
        assert torch.equal(output.logits, logits[stage])
        _same(output.logits, reference.logits)
        _same(alone[stage][0], logits[stage][1])
        state = output.state or ReuseState()
        _same(state.tokens, reference.tokens)
        _same(state.relations, reference.relations)
    assert output.state is None


def test_reads_images_hybrid_only_at_first_stage() -> None:
    cascade = randomised(TINY)
    assert [cascade.reads_images(stage) for stage in range(4)] == [True, False, False, False]
    images = _images(TINY)
    first = cascade.forward_stage(0, images)
    second = cascade.forward_stage(1, None, first.state)
    assert torch.equal(second.logits, cascade.forward_stage(1, images, first.state).logits)


def test_forward_stage_missing_relations_raises_naming_them() -> None:
    cascade = randomised(TINY)
    state = cascade.forward_stage(0, _images(TINY)).state
    assert state is not None
    with pytest.raises(ValueError, match="relations"):
        cascade.forward_stage(1, None, replace(state, relations=None))
    with pytest.raises(ValueError, match="tokens"):
        cascade.forward_stage(1, None, replace(state, tokens=None))
    with pytest.raises(ValueError, match="feature map"):
        cascade.forward_stage(1, None, ReuseState(state.tokens, state.relations))


def test_forward_stage_wrong_images_or_stage_raises_naming_them() -> None:
    cascade = randomised(TINY)
    with pytest.raises(ValueError, match=r"\[B, 3, 28, 28\], got \(1, 3, 27, 28\)"):
        cascade.forward_stage(0, torch.zeros(1, 3, 27, 28))
    with pytest.raises(IndexError, match="stage 4"):
        cascade.forward_stage(4, _images(TINY))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.5), (torch.float64, 1e-4)])
@pytest.mark.parametrize("config", [TINY_T2T, TINY_LOOKS], ids=["t2t", "looks"])
@torch.no_grad()
def test_forward_in_other_precisions_is_nearly_the_same(
    config: CascadeConfig, dtype: torch.dtype, tolerance: float
) -> None:
    cascade, images = randomised(config), _images(config)
    expected = cascade(images)[-1]
    found = cascade.to(dtype)(images.to(dtype))[-1]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["residual_stem", "unshuffled_maps", "looks"])
def test_fold_batch_norms_eval_keeps_outputs(kind: str) -> None:
    cascade = randomised(TINY_CONFIGS[kind]).double()
    images = _images(cascade.config).double()
    before = cascade(images)
    cascade.fold_batch_norms()
    assert not any("running_mean" in key for key in cascade.state_dict())
    cascade.fold_batch_norms()
    for old, new in zip(before, cascade(images), strict=True):
        _same(new, old)
    with pytest.raises(RuntimeError, match="eval"):
        cascade.train().fold_batch_norms()


def test_backward_reaches_every_parameter(tiny_cascade: Cascade) -> None:
    cascade = tiny_cascade.train()
    torch.stack(cascade(_images(cascade.config, 4))).square().sum().backward()
    trained = {name: each for name, each in cascade.named_parameters() if each.requires_grad}
    without = [name for name, each in trained.items() if each.grad is None or not each.grad.any()]
    # The last stage's last block computes only the class token, whose reused features are zero.
    unread = f"stages.{cascade.config.num_stages - 1}.feature_reuse.{cascade.config.depth - 1}."
    assert without == [name for name in trained if name.startswith(unread)]


def test_cascade_sinusoid_positions_are_initialised_and_not_trained() -> None:
    cascade = Cascade(TINY_T2T)
    for index, stage in enumerate(cascade.stages):
        expected = sinusoid_positions(TINY_T2T.num_tokens(index), TINY_T2T.embed_dim)
        assert torch.equal(stage.pos_embed[0], expected.float())
    fixed = {name.rpartition(".")[2] for name, parameter in cascade.named_parameters() if not parameter.requires_grad}
    assert fixed == {"pos_embed", "w"}
    assert "stages.0.pos_embed" in cascade.state_dict()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_forward_cuda_equals_cpu(tiny_cascade: Cascade) -> None:
    images = _images(tiny_cascade.config)
    expected = tiny_cascade(images)
    for old, new in zip(expected, tiny_cascade.cuda()(images.cuda()), strict=True):
        torch.testing.assert_close(new.cpu(), old, atol=1e-4, rtol=1e-4)
