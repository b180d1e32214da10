import pytest
import torch
from cascades import TINY_CONFIGS, randomised

from models.cascade import Cascade
from service.engine.preparation import Run, choose_dtype, prepared, seconds_of

CASCADE = randomised(TINY_CONFIGS["no_reuse"])


class ScriptedTimer:
    """Says how many seconds an image takes by the type it is computed in; every run really runs."""

    def __init__(self, float32_s: float, bfloat16_s: float) -> None:
        self.seconds = {torch.float32: float32_s, torch.bfloat16: bfloat16_s}
        self.seen: list[tuple[torch.dtype, int]] = []

    def __call__(self, run: Run) -> float:
        logits = run()
        self.seen.append((logits.dtype, len(logits)))
        return self.seconds[logits.dtype] * len(logits)


@pytest.mark.parametrize(
    ("bfloat16_s", "expected"),
    [(0.004, torch.bfloat16), (0.0079, torch.bfloat16), (0.0081, torch.float32), (0.03, torch.float32)],
)
def test_choose_dtype_takes_bfloat16_only_when_clearly_faster(bfloat16_s: float, expected: torch.dtype) -> None:
    timer = ScriptedTimer(0.01, bfloat16_s)
    assert choose_dtype(CASCADE, device="cpu", max_batch_size=4, timer=timer) is expected


def test_choose_dtype_every_kind_of_cascade_can_be_measured(tiny_cascade: Cascade) -> None:
    timer = ScriptedTimer(3.0, 1.0)
    assert choose_dtype(tiny_cascade, device="cpu", max_batch_size=4, timer=timer) is torch.bfloat16


@pytest.mark.parametrize(("float32_s", "batch", "rounds"), [(0.001, 8, 3), (0.02, 5, 3), (0.15, 1, 2), (3.0, 1, 1)])
def test_choose_dtype_takes_turns_on_a_batch_that_the_machine_can_do_in_time(
    float32_s: float, batch: int, rounds: int
) -> None:
    timer = ScriptedTimer(float32_s, float32_s)
    choose_dtype(CASCADE, device="cpu", max_batch_size=8, timer=timer)
    assert timer.seen[:6] == [(torch.float32, 1), (torch.bfloat16, 1)] * 2 + [(torch.float32, 1)] * 2
    assert timer.seen[6:] == [(torch.float32, batch), (torch.bfloat16, batch)] * (1 + rounds)


def test_choose_dtype_type_without_hardware_is_given_up_after_one_image() -> None:
    timer = ScriptedTimer(0.01, 0.04)
    chosen = choose_dtype(CASCADE, device="cpu", max_batch_size=8, timer=timer)
    assert chosen is torch.float32
    assert timer.seen == [(torch.float32, 1), (torch.bfloat16, 1)] * 2


def test_choose_dtype_one_disturbed_round_changes_nothing() -> None:
    class Disturbed(ScriptedTimer):
        def __call__(self, run: Run) -> float:
            seconds = super().__call__(run)
            return seconds * 100 if len(self.seen) == 10 else seconds

    timer = Disturbed(0.01, 0.001)
    assert choose_dtype(CASCADE, device="cpu", max_batch_size=4, timer=timer) is torch.bfloat16
    assert timer.seen[9][0] is torch.bfloat16


def test_prepared_is_a_copy_in_the_type_asked_for_with_the_same_answers() -> None:
    cascade = randomised(TINY_CONFIGS["hybrid"])
    before = {key: value.clone() for key, value in cascade.state_dict().items()}
    ready = prepared(cascade, torch.device("cpu"), torch.float64)
    images = torch.randn(3, 3, 28, 28)
    for old, new in zip(cascade.eval()(images), ready(images.double()), strict=True):
        torch.testing.assert_close(new.float(), old, atol=1e-5, rtol=0)
    assert all(torch.equal(cascade.state_dict()[key], value) for key, value in before.items())
    assert all(parameter.dtype is torch.float64 and not parameter.requires_grad for parameter in ready.parameters())


def test_seconds_of_is_the_time_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, clock = [], iter([1.0, 3.5])
    monkeypatch.setattr("service.engine.preparation.time.perf_counter", lambda: next(clock))
    assert seconds_of(lambda: runs.append(1) or torch.zeros(1)) == 2.5
    assert runs == [1]
