import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.reuse import ReuseState
from models.stage import StageOutput
from service.engine.graphs import Compute, GraphedForward


class Model:
    """A stage adds its number to what it is given; counts how often it is really called."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, stage: int, images: Tensor | None, state: ReuseState | None) -> StageOutput:
        source = images if images is not None else state.tokens
        self.calls.append((stage, len(source)))
        return StageOutput(source + stage, ReuseState(tokens=source * 2))


class FakeCapture:
    """Replays by computing again into the tensors the first time gave, as a device does."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.count = 0
        self.fails_at = fails_at

    def __call__(self, compute: Compute) -> tuple[StageOutput, Callable[[], None]]:
        if self.count == self.fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.count += 1
        output = compute()

        def replay() -> None:
            again = compute()
            output.logits.copy_(again.logits)
            output.state.tokens.copy_(again.state.tokens)  # type: ignore[union-attr]

        return output, replay


def _images(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1)


def _logits(output: StageOutput) -> list[float]:
    values: list[float] = output.logits.flatten().tolist()
    return values


def test_graphed_forward_replays_what_was_recorded_with_new_values() -> None:
    graphs = GraphedForward(Model(), FakeCapture())
    with graphs.recording():
        assert _logits(graphs(1, _images(0.0, 0.0), None)) == [1.0, 1.0]
    first = graphs(1, _images(3.0, 4.0), None)
    assert _logits(first) == [4.0, 5.0]
    second = graphs(1, _images(7.0, 8.0), None)
    assert _logits(second) == [8.0, 9.0]
    assert second.logits is first.logits
    assert second.state.tokens.flatten().tolist() == [14.0, 16.0]


def test_graphed_forward_reads_the_state_it_is_given_and_leaves_it_alone() -> None:
    graphs = GraphedForward(Model(), FakeCapture())
    with graphs.recording():
        graphs(2, None, ReuseState(tokens=_images(1.0)))
    given = ReuseState(tokens=_images(5.0))
    assert _logits(graphs(2, None, given)) == [7.0]
    graphs(2, None, ReuseState(tokens=_images(9.0)))
    assert given.tokens.item() == 5.0


def test_graphed_forward_every_stage_and_size_is_recorded_once_and_others_run_as_they_are() -> None:
    model, capture = Model(), FakeCapture()
    graphs = GraphedForward(model, capture)
    with graphs.recording():
        for stage, images in [(0, _images(0.0)), (0, _images(0.0, 0.0)), (1, _images(0.0)), (0, _images(0.0))]:
            graphs(stage, images, None)
    assert (len(graphs), capture.count) == (3, 3)
    assert _logits(graphs(0, _images(1.0, 2.0, 3.0), None)) == [1.0, 2.0, 3.0]
    assert (len(graphs), capture.count, model.calls[-1]) == (3, 3, (0, 3))


def test_graphed_forward_recording_fails_everything_runs_without(caplog: pytest.LogCaptureFixture) -> None:
    graphs = GraphedForward(Model(), FakeCapture(fails_at=1))
    with caplog.at_level(logging.WARNING), graphs.recording():
        graphs(0, _images(0.0), None)
        assert len(graphs) == 1
        assert _logits(graphs(3, _images(1.0, 2.0), None)) == [4.0, 5.0]
        assert len(graphs) == 0
        assert _logits(graphs(0, _images(6.0), None)) == [6.0]
    assert len(graphs) == 0
    assert [record.message for record in caplog.records] == [
        "stage 3 cannot be recorded for 2 images: running without CUDA graphs"
    ]
