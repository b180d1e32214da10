from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from service.engine.buckets import bucket_sizes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_bucket_sizes_grow_in_bfloat16_on_a_cpu_double_on_a_gpu_and_are_none_elsewhere() -> None:
    steps = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 100)
    assert bucket_sizes(100, CPU, torch.bfloat16) == steps
    assert bucket_sizes(3, CPU, torch.bfloat16) == (1, 2, 3)
    assert bucket_sizes(64, CPU, torch.float32) == ()
    for dtype in (torch.float32, torch.bfloat16):
        assert bucket_sizes(48, GPU, dtype) == (1, 2, 4, 8, 16, 32, 48)


@given(limit=st.integers(1, 2048), size=st.integers(1, 2048))
def test_bucket_sizes_any_batch_is_padded_by_three_rows_or_a_quarter(limit: int, size: int) -> None:
    sizes = bucket_sizes(limit, CPU, torch.bfloat16)
    assert sizes[-1] == limit
    assert all(low < high for low, high in pairwise(sizes))
    if size <= limit:
        assert min(bucket for bucket in sizes if bucket >= size) - size <= max(3, size / 4)
