"""The batch sizes that are computed: a batch of another size is padded up to the next of them.

A size that was met before is worth more than the arithmetic of a few rows. On a GPU a graph is recorded for each size.
On a CPU, oneDNN compiles its bfloat16 kernels for each shape and keeps 1,024 of them, sixty or so for a walk of one
size: if every size occurs, most steps compile theirs anew.
"""

import torch

_SMALLEST_STEP = 4


def bucket_sizes(max_batch_size: int, device: torch.device, dtype: torch.dtype) -> tuple[int, ...]:
    """Batch sizes up to `max_batch_size`, which is one of them; none where every size is computed as it is.

    On a GPU powers of two. On a CPU in bfloat16 steps of 4, and of a quarter of the power of two below once that is
    more: 1, 2, 4, 8, 12 ... 32, 40 ... 64, 80. In float32 a CPU's products need no kernels of their own for a shape.
    """
    if device.type != "cpu":
        sizes = {1 << exponent for exponent in range(max_batch_size.bit_length())}
    elif dtype is torch.bfloat16:
        sizes, size = {1, 2}, _SMALLEST_STEP
        while size < max_batch_size:
            sizes.add(size)
            size += max(_SMALLEST_STEP, (1 << size.bit_length()) // 8)
    else:
        return ()
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))
