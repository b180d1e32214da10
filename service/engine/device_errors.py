"""Tells a lost device from a batch that failed, and memory that ran out from both.

Loads torch only to look at an error, since whoever knows the engine by its interface imports this and computes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DeviceLostError

# What torch's allocators say: of a GPU, and of the host.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might succeed, since memory of the device or of the host ran out."""
    import torch

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
        import torch

        # Older versions of torch raise a plain RuntimeError, known by its text.
        lost = "CUDA error" in str(error) or isinstance(error, getattr(torch, "AcceleratorError", ()))
        if lost and not is_out_of_memory(error):
            raise DeviceLostError("the accelerator failed and cannot compute any more") from error
        raise
