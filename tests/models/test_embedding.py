import torch
from cascades import TINY

from models.embedding import ConvNorm, build_embedding, is_channels_last


def test_embedding_of_a_map_with_channels_last_is_the_same() -> None:
    feature_map = torch.randn(3, 6, 14, 14, dtype=torch.float64)
    other = feature_map.contiguous(memory_format=torch.channels_last)
    assert (is_channels_last(feature_map), is_channels_last(other)) == (False, True)
    for stage in range(4):
        embedding = build_embedding(TINY, stage).double()
        found, expected = embedding(other), embedding(feature_map)
        torch.testing.assert_close(found.tokens_BND, expected.tokens_BND, atol=1e-12, rtol=0)
        assert found.features_BF is None


def test_conv_norm_with_channels_last_is_the_same_and_stays_so() -> None:
    layer = ConvNorm(3, 6, stride=2).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = layer(images)
    output = layer.to(memory_format=torch.channels_last)(images)
    assert is_channels_last(output)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
