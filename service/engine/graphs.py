"""Replays the kernels of a stage as one CUDA graph, which spares launching a hundred small ones each time."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.reuse import ReuseState
from models.stage import StageOutput

_logger = logging.getLogger(__name__)

Forward = Callable[[int, Tensor | None, ReuseState | None], StageOutput]
Compute = Callable[[], StageOutput]
Capture = Callable[[Compute], tuple[StageOutput, Callable[[], None]]]
"""Records a computation: gives its output, and what computes the same again into that output."""


@dataclass(frozen=True, slots=True)
class _Graph:
    images: Tensor | None
    state: ReuseState | None
    output: StageOutput
    replay: Callable[[], None]


class GraphedForward:
    """A cascade's `forward_stage`, replayed where it was recorded for that stage and batch size.

    A replayed output is overwritten by the next call: who needs it longer copies it.

    Args:
        forward: what is recorded, and what runs where nothing was.
        capture: records on the device.
    """

    def __init__(self, forward: Forward, capture: Capture) -> None:
        self._forward = forward
        self._capture = capture
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._recording = False

    def __len__(self) -> int:
        """How many stages and batch sizes are recorded."""
        return len(self._graphs)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every stage and batch size that is run inside; a failure ends it and forgets what was recorded."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def __call__(self, stage: int, images: Tensor | None, state: ReuseState | None) -> StageOutput:
        """Run one stage; see `Cascade.forward_stage`."""
        key = stage, _batch_size(images, state)
        graph = self._graphs.get(key)
        if graph is None and self._recording:
            graph = self._record(key, images, state)
        if graph is None:
            return self._forward(stage, images, state)
        _copy(images, graph.images)
        _copy_state(state, graph.state)
        graph.replay()
        return graph.output

    def _record(self, key: tuple[int, int], images: Tensor | None, state: ReuseState | None) -> _Graph | None:
        # Buffers of the same layout as what is given: the kernels that are recorded depend on it.
        images = None if images is None else images.clone()
        state = None if state is None else ReuseState(*(_clone(value) for value in _parts(state)))
        try:
            output, replay = self._capture(lambda: self._forward(key[0], images, state))
        except Exception as error:
            _logger.warning(
                "stage %d cannot be recorded for %d images: running without CUDA graphs", *key, exc_info=error
            )
            self._recording = False
            self._graphs.clear()
            return None
        graph = self._graphs[key] = _Graph(images, state, output, replay)
        return graph


class CudaCapture:
    """Records on a CUDA device; all recordings share one pool of memory, since only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> tuple[StageOutput, Callable[[], None]]:
        """Record `compute`; see `Capture`."""
        with torch.cuda.device(self._device):
            # Libraries set themselves up in the first calls, which a recording forbids.
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


def _parts(state: ReuseState) -> list[Tensor | None]:
    return [getattr(state, field.name) for field in fields(state)]


def _batch_size(images: Tensor | None, state: ReuseState | None) -> int:
    parts = [images] if state is None else [images, *_parts(state)]
    return next((len(part) for part in parts if part is not None), 0)


def _clone(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone()


def _copy(source: Tensor | None, target: Tensor | None) -> None:
    if source is not None and target is not None:
        target.copy_(source, non_blocking=True)


def _copy_state(source: ReuseState | None, target: ReuseState | None) -> None:
    if source is not None and target is not None:
        for value, buffer in zip(_parts(source), _parts(target), strict=True):
            _copy(value, buffer)
