"""Tells a lost device from a batch that failed, and memory that ran out from both."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from service.errors import DeviceLostError

# Older versions of torch raise a plain RuntimeError, known by its text.
_ACCELERATOR_ERRORS: tuple[type[Exception], ...] = (
    (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
)
# What torch's allocators say: of a GPU, and of the host.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might succeed, since memory of the device or of the host ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


@contextmanager
def device_errors() -> Iterator[None]:
    """Raise for a lost device, for which nothing more can be computed, an error of its own.

    Raises:
        DeviceLostError: the device is lost. Everything else passes unchanged, memory that ran out too.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, _ACCELERATOR_ERRORS) or "CUDA error" in str(error)
        if lost and not is_out_of_memory(error):
            raise DeviceLostError("the accelerator failed and cannot compute any more") from error
        raise
