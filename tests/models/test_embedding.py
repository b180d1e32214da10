import pytest
import torch
from cascades import TINY

from models.embedding import ConvNorm, build_embedding, is_channels_last, map_geometry


@pytest.mark.parametrize(("grid", "expected"), [(2, (7, 7, 0)), (4, (5, 3, 0)), (7, (2, 2, 0)), (14, (1, 1, 0))])
def test_map_geometry_of_fourteen_covers_map(grid: int, expected: tuple[int, int, int]) -> None:
    kernel, stride, _ = map_geometry(14, grid)
    assert map_geometry(14, grid) == expected
    assert kernel + stride * (grid - 1) == 14


@pytest.mark.parametrize("stage", range(4))
def test_embedding_of_a_map_with_channels_last_is_the_same(stage: int) -> None:
    embedding = build_embedding(TINY, stage).double()
    feature_map = torch.randn(3, 6, 14, 14, dtype=torch.float64)
    other = feature_map.contiguous(memory_format=torch.channels_last)
    assert (is_channels_last(feature_map), is_channels_last(other)) == (False, True)
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
