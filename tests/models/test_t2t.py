import torch

from models.t2t import performer_attention


def _qkvw(scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (scale * torch.randn(2, 9, 6, generator=generator) for _ in range(3))
    return q, k, v, torch.randn(4, 6, generator=generator)


def test_performer_attention_autocast_computes_features_in_float32() -> None:
    q, k, v, w = _qkvw()
    expected = performer_attention(q, k, v, w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(performer_attention(q, k, v, w), expected)


def test_performer_attention_bfloat16_rounds_only_the_result() -> None:
    low = tuple(tensor.bfloat16() for tensor in _qkvw(scale=2.0))
    found = performer_attention(*low)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, performer_attention(*(tensor.float() for tensor in low)).bfloat16())
