"""The batch sizes that are computed; other batches are padded to the next of them.

Padding computes a few rows in vain but reuses prepared kernels. On a GPU a CUDA graph is recorded for each size. On a
CPU, oneDNN compiles bfloat16 kernels for each shape and caches 1,024 of them. One batch size takes about sixty, so
without padding most steps would compile kernels again.
"""

import torch

_SMALLEST_STEP = 4


def bucket_sizes(max_batch_size: int, device: torch.device, dtype: torch.dtype) -> tuple[int, ...]:
    """Batch sizes up to and including `max_batch_size`; none if batches are not padded.

    On a GPU: powers of two. On a CPU in bfloat16: steps of 4, later of a quarter of the power of two below: 1, 2, 4, 8,
    12 ... 32, 40 ... 64, 80. On a CPU in float32: none, because its kernels do not depend on the shape.
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
