"""Prepares a cascade for inference on a device: memory layout, the fastest floating point type, batch sizes."""

import copy
import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor

from models.cascade import Cascade
from models.host_memory import keep_freed_memory

_logger = logging.getLogger(__name__)

Run = Callable[[], Tensor]

# bfloat16 must save this share of the time, because it rounds more coarsely and times vary.
_MARGIN = 0.2
# A CPU without bfloat16 instructions takes 7 to 19 times as long.
_HOPELESS = 3.0
_MAX_ROUNDS = 3
# Target duration of one float32 batch, and time after which no further round starts.
_BATCH_S = 0.1
_MAX_S = 0.8

_KEPT_BYTES = 2**30
_SMALLEST_STEP = 4


def prepared(cascade: Cascade, device: torch.device, dtype: torch.dtype) -> Cascade:
    """A copy for inference, with folded batch norms and the fastest memory layout for convolutions."""
    if device.type == "cpu":
        keep_freed_memory(_KEPT_BYTES)
    cascade = copy.deepcopy(cascade).eval().requires_grad_(False)
    cascade.fold_batch_norms()
    cascade.to(device, dtype)
    if cascade.config.is_convolutional:
        cascade.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return cascade


def bucket_sizes(max_batch_size: int, device: torch.device, dtype: torch.dtype) -> tuple[int, ...]:
    """The batch sizes that are computed, up to `max_batch_size`; other batches are padded to the next of them.

    Padding computes a few rows in vain but reuses prepared kernels. On a GPU, where a CUDA graph is recorded for each
    size: powers of two. On a CPU in bfloat16: steps of 4, later of a quarter of the power of two below: 1, 2, 4, 8, 12
    ... 32, 40 ... 64, 80. oneDNN compiles its bfloat16 kernels for each shape, about sixty for one batch size, and
    caches 1,024 of them. On a CPU in float32: none, because its kernels do not depend on the shape.
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


def seconds_of(run: Run) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def choose_dtype(
    cascade: Cascade, *, device: str, max_batch_size: int, timer: Callable[[Run], float] = seconds_of
) -> torch.dtype:
    """Time the deepest stage alternately in float32 and bfloat16; choose bfloat16 if it is clearly faster.

    If bfloat16 is several times slower for one image at the first stage, the measurement ends there.

    Args:
        max_batch_size: the batch size to measure; smaller on a slow machine.
    """
    exact, rounded = (prepared(cascade, torch.device(device), dtype) for dtype in (torch.float32, torch.bfloat16))
    first = [_stage(model, 0, 1) for model in (exact, rounded)]
    for run in first:
        timer(run)  # The first run includes one-time initialisation.
    float32_s, bfloat16_s = map(timer, first)
    batch_size, stage = 1, "first"
    if bfloat16_s <= _HOPELESS * float32_s:
        last, stage = cascade.config.num_stages - 1, "deepest"
        one = _stage(exact, last, 1)
        timer(one)
        batch_size = max(1, min(max_batch_size, int(_BATCH_S / max(timer(one), 1e-9))))
        runs = [_stage(model, last, batch_size) for model in (exact, rounded)]
        spent_s = sum(map(timer, runs))
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < _MAX_ROUNDS and spent_s < _MAX_S):
            rounds.append([*map(timer, runs)])
            spent_s += sum(rounds[-1])
        float32_s, bfloat16_s = (min(times) for times in zip(*rounds, strict=True))
    dtype = torch.bfloat16 if bfloat16_s < (1 - _MARGIN) * float32_s else torch.float32
    _logger.info(
        "computing in %s: %d images take %.1f ms in float32 and %.1f ms in bfloat16 at the %s stage",
        str(dtype).removeprefix("torch."),
        batch_size,
        float32_s * 1e3,
        bfloat16_s * 1e3,
        stage,
    )
    return dtype


@torch.inference_mode()
def _stage(cascade: Cascade, stage: int, batch_size: int) -> Run:
    """A function that runs a stage on random images with their reuse state and copies the logits to the host."""
    side, weight = cascade.config.image_size, next(cascade.parameters())
    noise = torch.randn(batch_size, 3, side, side, generator=torch.Generator().manual_seed(0))
    images, state = noise.to(weight.device, weight.dtype), None
    for before in range(stage):
        state = cascade.forward_stage(before, images, state).state

    @torch.inference_mode()
    def run() -> Tensor:
        return cascade.forward_stage(stage, images, state).logits.cpu()

    return run
