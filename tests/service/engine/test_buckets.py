from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.engine.buckets import bucket_sizes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (1, (1,)),
        (3, (1, 2, 3)),
        (8, (1, 2, 4, 8)),
        (64, (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)),
        (100, (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 100)),
    ],
)
def test_bucket_sizes_bfloat16_on_a_cpu_steps_that_grow(limit: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(limit, CPU, torch.bfloat16) == sizes


def test_bucket_sizes_float32_on_a_cpu_none() -> None:
    assert bucket_sizes(64, CPU, torch.float32) == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bucket_sizes_gpu_powers_of_two_and_the_limit(dtype: torch.dtype) -> None:
    assert bucket_sizes(48, GPU, dtype) == (1, 2, 4, 8, 16, 32, 48)


@given(limit=st.integers(1, 2048), size=st.integers(1, 2048))
def test_bucket_sizes_any_batch_is_padded_by_three_rows_or_a_quarter(limit: int, size: int) -> None:
    sizes = bucket_sizes(limit, CPU, torch.bfloat16)
    assert sizes[-1] == limit
    assert all(low < high for low, high in pairwise(sizes))
    if size <= limit:
        assert min(bucket for bucket in sizes if bucket >= size) - size <= max(3, size / 4)
