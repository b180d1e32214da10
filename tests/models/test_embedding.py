import pytest
import torch
from cascades import TINY

from models.embedding import build_embedding, map_geometry, patch_geometry


@pytest.mark.parametrize(
    ("side", "grid", "expected"),
    [(224, 7, (32, 32, 0)), (224, 10, (23, 23, 3)), (224, 14, (16, 16, 0)), (56, 2, (28, 28, 0))],
)
def test_patch_geometry_covers_image(side: int, grid: int, expected: tuple[int, int, int]) -> None:
    assert patch_geometry(side, grid) == expected


@pytest.mark.parametrize(("grid", "expected"), [(2, (7, 7, 0)), (4, (5, 3, 0)), (7, (2, 2, 0)), (14, (1, 1, 0))])
def test_map_geometry_of_fourteen_covers_map(grid: int, expected: tuple[int, int, int]) -> None:
    kernel, stride, _ = map_geometry(14, grid)
    assert map_geometry(14, grid) == expected
    assert kernel + stride * (grid - 1) == 14


def test_build_embedding_tokens_are_in_raster_order() -> None:
    embedding = build_embedding(TINY, 2)
    feature_map = torch.zeros(1, 6, 14, 14)
    base = embedding(feature_map)
    feature_map[:, :, 0, 13] = 1.0  # top right: the second of four tokens
    changed = (embedding(feature_map) - base).abs().sum(dim=-1)[0]
    assert changed.nonzero().flatten().tolist() == [1]
