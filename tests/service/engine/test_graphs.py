import pytest
import torch

from models.reuse import ReuseState
from models.stage import StageOutput
from service.engine.graphs import GraphedForward


class Model:
    """A stage adds its number to what it is given; counts how often it is really called."""

    def __init__(self):
        self.calls = []

    def __call__(self, stage, images, state):
        source = images if images is not None else state.tokens
        self.calls.append((stage, len(source)))
        return StageOutput(source + stage, ReuseState(tokens=source * 2))


class FakeCapture:
    """Replays by computing again into the tensors the first time gave, as a device does."""

    def __init__(self, fails_at=None):
        self.count = 0
        self.fails_at = fails_at

    def __call__(self, compute):
        if self.count == self.fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.count += 1
        output = compute()

        def replay():
            again = compute()
            output.logits.copy_(again.logits)
            output.state.tokens.copy_(again.state.tokens)

        return output, replay


def _recorded(*calls, fails_at=None):
    """A recorder on which these calls were made while it recorded."""
    graphs = GraphedForward(Model(), FakeCapture(fails_at))
    graphs.recording = True
    outputs = [_logits(graphs(*call)) for call in calls]
    return graphs, outputs


def _images(*values):
    return torch.tensor(values).view(-1, 1)


def _logits(output):
    return output.logits.flatten().tolist()


def test_graphed_forward_replays_what_was_recorded_with_new_values():
    graphs, outputs = _recorded((1, _images(0.0, 0.0), None))
    assert outputs == [[1.0, 1.0]]
    first = graphs(1, _images(3.0, 4.0), None)
    assert _logits(first) == [4.0, 5.0]
    second = graphs(1, _images(7.0, 8.0), None)
    assert _logits(second) == [8.0, 9.0]
    assert second.logits is first.logits
    assert second.state.tokens.flatten().tolist() == [14.0, 16.0]


def test_graphed_forward_reads_the_state_it_is_given_and_leaves_it_alone():
    given = ReuseState(tokens=_images(5.0))
    graphs, _ = _recorded((2, None, ReuseState(tokens=_images(1.0))))
    assert [_logits(graphs(2, None, state)) for state in (given, ReuseState(tokens=_images(9.0)))] == [[7.0], [11.0]]
    assert given.tokens.item() == 5.0


def test_graphed_forward_every_stage_and_size_is_recorded_once_and_others_run_as_they_are():
    calls = [(0, _images(0.0)), (0, _images(0.0, 0.0)), (1, _images(0.0)), (0, _images(0.0))]
    graphs, _ = _recorded(*((stage, images, None) for stage, images in calls))
    assert (len(graphs), graphs._capture.count) == (3, 3)
    graphs.recording = False
    assert _logits(graphs(0, _images(1.0, 2.0, 3.0), None)) == [1.0, 2.0, 3.0]
    assert (len(graphs), graphs._capture.count, graphs._forward.calls[-1]) == (3, 3, (0, 3))


def test_graphed_forward_recording_fails_everything_runs_without(caplog: pytest.LogCaptureFixture):
    calls = (0, _images(0.0), None), (3, _images(1.0, 2.0), None), (0, _images(6.0), None)
    graphs, outputs = _recorded(*calls, fails_at=1)
    assert outputs == [[0.0], [4.0, 5.0], [6.0]]
    assert len(graphs) == 0
    assert caplog.messages == ["stage 3 cannot be recorded for 2 images: running without CUDA graphs"]
