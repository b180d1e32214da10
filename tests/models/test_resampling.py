import pytest
import torch
from reference import resample_cells

from models.resampling import Resampling, grid_resampling

PAIRS = [(2, 4), (4, 7), (7, 10), (14, 7)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_grid_resampling_equals_repeat_and_pool(source: int, target: int) -> None:
    cells = torch.randn(3, source * source, 5, dtype=torch.float64)
    matrix = grid_resampling(source, target)
    torch.testing.assert_close(matrix @ cells, resample_cells(cells, source, target))
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(target**2, dtype=torch.float64))


def test_resampling_moved_to_another_precision_is_rounded_once_from_the_exact_matrix() -> None:
    exact = grid_resampling(7, 10)
    resampling = Resampling(exact).to(torch.bfloat16).to(torch.float64)
    assert torch.equal(resampling.matrix_NM, exact)
    assert torch.equal(resampling.float().matrix_NM, exact.float())
    assert resampling.state_dict() == {}


def test_resampling_cells_of_another_precision_keep_theirs() -> None:
    cells = torch.randn(2, 9, 4).bfloat16()
    resampled = Resampling(grid_resampling(3, 6)).double()(cells)
    assert torch.equal(resampled, resample_cells(cells, 3, 6))
