import pytest
import torch

from service.engine.device_errors import device_errors, is_out_of_memory
from service.errors import DeviceLostError


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_device_errors_exhausted_memory_is_told_from_a_lost_device(error):
    assert is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, device_errors():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError),
        (torch.AcceleratorError("device-side assert triggered"), DeviceLostError),
        (RuntimeError("shapes do not match"), RuntimeError),
        (ValueError("out of memory"), ValueError),
    ],
)
def test_device_errors_lost_device_is_told_from_other_failures(error, expected):
    assert not is_out_of_memory(error)
    with pytest.raises(expected) as raised, device_errors():
        raise error
    assert raised.type is expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU may have that much memory")
def test_is_out_of_memory_recognises_what_torch_really_raises():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
