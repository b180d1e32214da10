"""Replays the kernels of a stage as one CUDA graph, which avoids about a hundred kernel launches."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.reuse import ReuseState
from models.stage import StageOutput

_logger = logging.getLogger(__name__)

Forward = Callable[[int, Tensor | None, ReuseState | None], StageOutput]
Compute = Callable[[], StageOutput]
Capture = Callable[[Compute], tuple[StageOutput, Callable[[], None]]]
"""Records a computation; returns its output and a function that computes it again into that output."""


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: list[Tensor | None]
    output: StageOutput
    replay: Callable[[], None]


class GraphedForward:
    """A cascade's `forward_stage`, replayed for recorded stages and batch sizes.

    The next call overwrites a replayed output.

    Args:
        forward: the function to record; it also runs when there is no recording.

    Attributes:
        recording: whether each new stage and batch size is recorded; a failure ends this and drops all recordings.
    """

    def __init__(self, forward: Forward, capture: Capture) -> None:
        self.recording = False
        self._forward = forward
        self._capture = capture
        self._graphs: dict[tuple[int, int], _Graph] = {}

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self._graphs)

    def __call__(self, stage: int, images: Tensor | None, state: ReuseState | None) -> StageOutput:
        """Run one stage; see `Cascade.forward_stage`."""
        inputs = _tensors(images, state)
        key = stage, next((len(value) for value in inputs if value is not None), 0)
        if self.recording and key not in self._graphs:
            self._record(key, images, state)
        graph = self._graphs.get(key)
        if graph is None:
            return self._forward(stage, images, state)
        for value, buffer in zip(inputs, graph.inputs, strict=True):
            if value is not None and buffer is not None:
                buffer.copy_(value, non_blocking=True)
        graph.replay()
        return graph.output

    def _record(self, key: tuple[int, int], images: Tensor | None, state: ReuseState | None) -> None:
        # Buffers with the memory layout of the inputs: the recorded kernels depend on it.
        buffers = [None if value is None else value.clone() for value in _tensors(images, state)]
        images, state = buffers[0], None if state is None else ReuseState(*buffers[1:])
        try:
            self._graphs[key] = _Graph(buffers, *self._capture(lambda: self._forward(key[0], images, state)))
        except Exception as error:
            message = "stage %d cannot be recorded for %d images: running without CUDA graphs"
            _logger.warning(message, *key, exc_info=error)
            self.recording = False
            self._graphs.clear()


class CudaCapture:
    """Records on a CUDA device; all recordings share one memory pool, because only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> tuple[StageOutput, Callable[[], None]]:
        """Record `compute`; see `Capture`."""
        with torch.cuda.device(self._device):
            # Libraries initialise in their first calls, which is not allowed while recording.
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    compute()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = compute()
        return output, graph.replay


def _tensors(images: Tensor | None, state: ReuseState | None) -> list[Tensor | None]:
    return [images, *([] if state is None else (getattr(state, field.name) for field in fields(state)))]
