from dataclasses import replace

import pytest
import torch
from cascades import TINY, TINY_CONFIGS, TINY_T2T, randomised
from reference import reference_forward

from models import Cascade, CascadeConfig, ReuseState
from models.embedding import sinusoid_positions
from models.layers import Mlp


def _images(config: CascadeConfig, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1))


def test_forward_stage_float64_equals_plain_reference(tiny_cascade: Cascade) -> None:
    cascade, config = tiny_cascade.double(), tiny_cascade.config
    images = _images(config).double()
    expected = reference_forward(cascade.state_dict(), config, images)
    state = None
    for stage, reference in enumerate(expected):
        output = cascade.forward_stage(stage, images, state)
        torch.testing.assert_close(output.logits, reference.logits, atol=1e-10, rtol=0)
        state = output.state
        if state is not None and state.tokens is not None:
            torch.testing.assert_close(state.tokens, reference.tokens, atol=1e-10, rtol=0)
        if state is not None and state.relations is not None:
            torch.testing.assert_close(state.relations, reference.relations, atol=1e-10, rtol=0)


def test_reference_with_reuse_has_biases_that_matter() -> None:
    cascade = randomised(TINY).double()
    images = _images(TINY).double()
    state = cascade.state_dict()
    with_bias = reference_forward(state, TINY, images)
    assert with_bias[-1].biases is not None
    assert with_bias[-1].biases.abs().max() > 0.1
    state = {key: torch.zeros_like(value) if "relation_reuse.fc2" in key else value for key, value in state.items()}
    without_bias = reference_forward(state, TINY, images)
    assert (with_bias[-1].logits - without_bias[-1].logits).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_forward_class_token_alone_in_a_last_block_equals_all_tokens(
    tiny_config: CascadeConfig, dtype: torch.dtype, tolerance: float
) -> None:
    for config in (tiny_config, tiny_config.plain()):
        cascade = randomised(config).to(dtype)
        images = _images(config).to(dtype)
        found = cascade(images)
        for stage in cascade.stages:
            stage.hands_on_tokens = True
        for logits, expected in zip(found, cascade(images), strict=True):
            torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


def test_forward_stage_features_of_the_last_block_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    cascade, images = randomised(TINY), _images(TINY)
    ran: list[tuple[int, ...]] = []
    mlp = Mlp.forward

    def spy(module: Mlp, x: torch.Tensor) -> torch.Tensor:
        ran.append(tuple(x.shape))
        return mlp(module, x)

    state = None
    for stage in range(3):
        state = cascade.forward_stage(stage, images, state).state
    monkeypatch.setattr(Mlp, "forward", spy)
    cascade.forward_stage(3, None, state)
    # The first block's features and tokens, then of the second block the class token.
    assert ran == [(2, 50, 12), (2, 197, 16), (2, 1, 16)]


def test_forward_all_exits_equals_stage_by_stage(tiny_cascade: Cascade) -> None:
    images = _images(tiny_cascade.config)
    logits, state = tiny_cascade(images), None
    assert len(logits) == tiny_cascade.config.num_stages
    for stage, expected in enumerate(logits):
        output = tiny_cascade.forward_stage(stage, images, state)
        assert torch.equal(output.logits, expected)
        state = output.state
    assert state is None


def test_forward_stage_rows_do_not_depend_on_neighbours(tiny_cascade: Cascade) -> None:
    images = _images(tiny_cascade.config, 4)
    for row, expected in enumerate(zip(*tiny_cascade(images), strict=True)):
        for exit_logits, alone in zip(expected, tiny_cascade(images[row : row + 1]), strict=True):
            torch.testing.assert_close(alone[0], exit_logits, atol=1e-5, rtol=1e-5)


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


def test_forward_stage_wrong_image_shape_raises_naming_it() -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, 28, 28\], got \(1, 3, 27, 28\)"):
        randomised(TINY).forward_stage(0, torch.zeros(1, 3, 27, 28))


def test_forward_stage_beyond_last_raises() -> None:
    with pytest.raises(IndexError, match="stage 4"):
        randomised(TINY).forward_stage(4, _images(TINY))


@pytest.mark.parametrize("kind", ["hybrid", "residual_stem", "deeper_maps", "unshuffled_maps", "looks"])
def test_fold_batch_norms_eval_keeps_outputs(kind: str) -> None:
    cascade = randomised(TINY_CONFIGS[kind]).double()
    images = _images(cascade.config).double()
    before = cascade(images)
    cascade.fold_batch_norms()
    assert not any("running_mean" in key for key in cascade.state_dict())
    cascade.fold_batch_norms()
    for old, new in zip(before, cascade(images), strict=True):
        torch.testing.assert_close(new, old, atol=1e-10, rtol=0)


def test_fold_batch_norms_training_raises() -> None:
    with pytest.raises(RuntimeError, match="eval"):
        randomised(TINY).train().fold_batch_norms()


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
