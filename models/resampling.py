"""Resampling between square grids of cells as constant matrices: one rule for tokens, relations and maps.

Shapes: s and t sides of the source and the target grid, M and N their cells, class token included where there is one.
"""

from collections.abc import Callable
from math import ceil
from typing import Self

import torch
from torch import Tensor, nn


def resampling_matrix(source: int, target: int) -> Tensor:
    """The one-dimensional resampling from `source` to `target` cells: repeat each cell twice, then average.

    Cell i of the target averages positions floor(i 2s / t) up to ceil((i + 1) 2s / t) of the doubled source,
    as adaptive average pooling does.

    Shape: -> [target, source], float64; rows sum to 1
    """
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        start, stop = i * 2 * source // target, ceil((i + 1) * 2 * source / target)
        for position in range(start, stop):
            matrix[i, position // 2] += 1 / (stop - start)
    return matrix


def token_resampling(source: int, target: int, *, class_token: bool) -> Tensor:
    """Resampling of a token sequence between two square grids.

    Args:
        class_token: whether the class token is carried over; otherwise its row is zero.

    Shape: -> [target² + 1, source² + 1], float64
    """
    matrix = torch.zeros(target**2 + 1, source**2 + 1, dtype=torch.float64)
    matrix[0, 0] = float(class_token)
    matrix[1:, 1:] = grid_resampling(source, target)
    return matrix


def grid_resampling(source: int, target: int) -> Tensor:
    """Resampling of the cells of a square grid, in raster order.

    Shape: -> [target², source²], float64; rows sum to 1
    """
    axis = resampling_matrix(source, target)
    return torch.kron(axis, axis)


class Resampling(nn.Module):
    """A constant matrix, exact in whatever precision the model is moved to.

    Args:
        matrix_NM: in float64.
    """

    matrix_NM: Tensor

    def __init__(self, matrix_NM: Tensor) -> None:
        super().__init__()
        self._exact = matrix_NM
        self.register_buffer("matrix_NM", matrix_NM.to(torch.get_default_dtype()), persistent=False)

    def forward(self, cells_BMD: Tensor) -> Tensor:
        """Resample.

        Shape: [B, M, D] -> [B, N, D]
        """
        return self.matrix_NM.to(cells_BMD.dtype) @ cells_BMD

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.matrix_NM = self._exact.to(self.matrix_NM)
        return self
