"""Distinguishes a lost device, exhausted memory and other failures of a batch.

Imports torch only when an error is examined, because front ends import this module and do not load torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DeviceLostError

# Messages of torch's allocators for GPU and host memory.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or the host ran out, so that a smaller batch might succeed."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


@contextmanager
def device_errors() -> Iterator[None]:
    """Convert errors of a lost device to `DeviceLostError`.

    Raises:
        DeviceLostError: the device cannot compute any more. Other errors pass unchanged, exhausted memory too.
    """
    try:
        yield
    except RuntimeError as error:
        import torch

        # Some versions of torch raise a RuntimeError that only its text identifies.
        if not is_out_of_memory(error) and ("CUDA error" in str(error) or isinstance(error, torch.AcceleratorError)):
            raise DeviceLostError("the accelerator failed and cannot compute any more") from error
        raise
