from types import SimpleNamespace

import pytest
import torch
from cascades import TINY_CONFIGS, randomised
from torch import nn

from models.stage import StageOutput
from service.engine.preparation import bucket_sizes, choose_dtype, prepared, seconds_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Stub(nn.Module):
    """A cascade of four stages without a computation; a stage gives as many logits as its number."""

    config = SimpleNamespace(image_size=2, num_stages=4, is_convolutional=False)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def fold_batch_norms(self):
        pass

    def forward_stage(self, stage, images, state):
        return StageOutput(images.new_zeros(len(images), stage), state)


class ScriptedTimer:
    """Says how many seconds an image takes by the type it is computed in; every run really runs."""

    def __init__(self, float32_s, bfloat16_s):
        self.seconds = {torch.float32: float32_s, torch.bfloat16: bfloat16_s}
        self.seen = []  # (type, stage, images)

    def __call__(self, run):
        logits = run()
        self.seen.append((logits.dtype, logits.shape[1], len(logits)))
        return self.seconds[logits.dtype] * len(logits)


def _both(stage, images):
    return [(torch.float32, stage, images), (torch.bfloat16, stage, images)]


@pytest.mark.parametrize(
    ("bfloat16_s", "expected"), [(0.0079, torch.bfloat16), (0.0081, torch.float32), (0.03, torch.float32)]
)
def test_choose_dtype_takes_bfloat16_only_when_clearly_faster(bfloat16_s, expected):
    timer = ScriptedTimer(0.01, bfloat16_s)
    assert choose_dtype(Stub(), device="cpu", max_batch_size=4, timer=timer) is expected


@pytest.mark.parametrize("kind", ["deeper_maps", "t2t", "looks"])
def test_choose_dtype_every_kind_of_cascade_can_be_measured(kind):
    timer = ScriptedTimer(3.0, 1.0)
    cascade = randomised(TINY_CONFIGS[kind])
    assert choose_dtype(cascade, device="cpu", max_batch_size=4, timer=timer) is torch.bfloat16


@pytest.mark.parametrize(("float32_s", "batch", "rounds"), [(0.001, 8, 3), (0.02, 5, 3), (0.15, 1, 2), (3.0, 1, 1)])
def test_choose_dtype_takes_turns_on_a_batch_that_the_machine_can_do_in_time(float32_s, batch, rounds):
    timer = ScriptedTimer(float32_s, float32_s)
    choose_dtype(Stub(), device="cpu", max_batch_size=8, timer=timer)
    assert timer.seen[:6] == _both(0, 1) * 2 + [(torch.float32, 3, 1)] * 2
    assert timer.seen[6:] == _both(3, batch) * (1 + rounds)


def test_choose_dtype_type_without_hardware_is_given_up_after_one_image():
    timer = ScriptedTimer(0.01, 0.04)
    assert choose_dtype(Stub(), device="cpu", max_batch_size=8, timer=timer) is torch.float32
    assert timer.seen == _both(0, 1) * 2


def test_choose_dtype_one_disturbed_round_changes_nothing():
    class Disturbed(ScriptedTimer):
        def __call__(self, run):
            return super().__call__(run) * (100 if len(self.seen) == 10 else 1)

    timer = Disturbed(0.01, 0.001)
    assert choose_dtype(Stub(), device="cpu", max_batch_size=4, timer=timer) is torch.bfloat16
    assert timer.seen[9][0] is torch.bfloat16


def test_prepared_is_a_copy_in_the_type_asked_for_with_the_same_answers():
    cascade = randomised(TINY_CONFIGS["hybrid"])
    before = {key: value.clone() for key, value in cascade.state_dict().items()}
    ready = prepared(cascade, CPU, torch.float64)
    images = torch.randn(3, 3, 28, 28)
    for old, new in zip(cascade(images), ready(images.double()), strict=True):
        torch.testing.assert_close(new.float(), old, atol=1e-5, rtol=0)
    assert all(torch.equal(cascade.state_dict()[key], value) for key, value in before.items())
    maps = [parameter for parameter in ready.parameters() if parameter.ndim == 4]
    assert all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in maps)
    assert all(parameter.dtype is torch.float64 and not parameter.requires_grad for parameter in ready.parameters())


def test_seconds_of_is_the_time_of_one_run(monkeypatch):
    runs, clock = [], iter([1.0, 3.5])
    monkeypatch.setattr("service.engine.preparation.time.perf_counter", lambda: next(clock))
    assert seconds_of(lambda: runs.append(1)) == 2.5
    assert runs == [1]


def test_bucket_sizes_grow_in_bfloat16_on_a_cpu_double_on_a_gpu_and_are_none_elsewhere():
    steps = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 100)
    assert bucket_sizes(100, CPU, torch.bfloat16) == steps
    assert bucket_sizes(3, CPU, torch.bfloat16) == (1, 2, 3)
    assert bucket_sizes(64, CPU, torch.float32) == ()
    for dtype in (torch.float32, torch.bfloat16):
        assert bucket_sizes(48, GPU, dtype) == (1, 2, 4, 8, 16, 32, 48)


@pytest.mark.parametrize("limit", [5, 64, 2000])
def test_bucket_sizes_any_batch_is_padded_by_three_rows_or_a_quarter(limit):
    sizes = bucket_sizes(limit, CPU, torch.bfloat16)
    for size in range(1, limit + 1):
        assert min(bucket for bucket in sizes if bucket >= size) - size <= max(3, size / 4)
