import pytest
import torch
from reference import resample_cells, resample_tokens

from models.resampling import Resampling, grid_resampling, token_resampling

PAIRS = [(2, 4), (4, 7), (7, 14), (7, 10), (10, 14), (3, 5), (7, 4), (14, 7)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_grid_resampling_equals_repeat_and_pool(source: int, target: int) -> None:
    cells = torch.randn(3, source * source, 5, dtype=torch.float64)
    matrix = grid_resampling(source, target)
    torch.testing.assert_close(matrix @ cells, resample_cells(cells, source, target))
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(target**2, dtype=torch.float64))


@pytest.mark.parametrize("class_token", [True, False])
def test_token_resampling_class_token_is_carried_or_zero(class_token: bool) -> None:
    tokens = torch.randn(2, 17, 3, dtype=torch.float64)
    resampled = token_resampling(4, 7, class_token=class_token) @ tokens
    expected = resample_tokens(tokens, 4, 7)
    torch.testing.assert_close(resampled[:, 1:], expected[:, 1:])
    assert torch.equal(resampled[:, 0], tokens[:, 0] * class_token)


def test_resampling_moved_to_another_precision_is_rounded_once_from_the_exact_matrix() -> None:
    exact = grid_resampling(7, 10)
    resampling = Resampling(exact).to(torch.bfloat16).to(torch.float64)
    assert torch.equal(resampling.matrix_NM, exact)
    assert torch.equal(resampling.float().matrix_NM, exact.float())
    assert resampling.state_dict() == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resampling_cells_of_another_precision_keep_theirs(dtype: torch.dtype) -> None:
    cells = torch.randn(2, 9, 4).to(dtype)
    resampled = Resampling(grid_resampling(3, 6)).double()(cells)
    assert torch.equal(resampled, resample_cells(cells, 3, 6))
