"""Reuse state of the images between two stages, in device memory allocated once.

Shapes: C capacity of the pool, B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from models.reuse import ReuseState
from service.engine.device_errors import is_out_of_memory
from service.errors import ServiceError


class StateMemoryError(ServiceError):
    """There is no memory for the reuse state of all images that may be in flight; met at the warm-up only."""


@dataclass(slots=True)
class _Slot:
    """Where a task's state lies.

    Attributes:
        row: its row in every tensor of the pool.
        boundary: the stage that wrote it last; None until a first write is complete.
    """

    row: int
    boundary: int | None = None


class StatePool:
    """One slot per image for its whole walk, in one tensor [C, ...] per kind of state and boundary.

    Boundary k is what stage k hands to stage k + 1. Each has tensors of its own, so that a stage never
    overwrites what it has read, and a failed batch can be run again. The feature map is written where a stage has
    made or deepened it, and read from there as long as it is the same. Tensors are allocated when the first state
    of their kind arrives, at the warm-up.

    Args:
        capacity: how many images may hold state at a time.
        device: where the tensors lie.
        map_origins: for each boundary, the one at which the feature map handed over there was made.
    """

    def __init__(self, capacity: int, device: torch.device, map_origins: Sequence[int]) -> None:
        self.capacity = capacity
        self._device = device
        self._map_origins = tuple(map_origins)
        self._free = list(range(capacity))
        self._slots: dict[int, _Slot] = {}
        self._tensors: dict[tuple[str, int], Tensor] = {}

    def __len__(self) -> int:
        """How many images hold state."""
        return len(self._slots)

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image's slot: all boundaries and kinds of state seen so far, which is all after the warm-up."""
        return sum(tensor.nbytes for tensor in self._tensors.values()) // self.capacity

    def store(self, boundary: int, task_ids: Sequence[int], state: ReuseState, rows: Sequence[int]) -> None:
        """Write these rows of a batch's state into the tasks' slots.

        Shape: state [B, ...]; as many rows as task_ids

        Raises:
            RuntimeError: when the pool is full; nothing is written then.
            StateMemoryError: when a kind of state arrives for the first time and there is no memory for it.
        """
        arrivals = [task_id for task_id in task_ids if task_id not in self._slots]
        if len(arrivals) > len(self._free):
            raise RuntimeError(f"no reuse state slots for {len(arrivals)} images; {len(self._free)} are free")
        for task_id in arrivals:
            self._slots[task_id] = _Slot(self._free.pop())
        slots = [self._slots[task_id] for task_id in task_ids]

        source, target = self._index(rows), self._index([slot.row for slot in slots])
        self._write("tokens", boundary, state.tokens, source, target)
        self._write("relations", boundary, state.relations, source, target)
        self._write("logits", boundary, state.logits, source, target)
        if self._map_origins[boundary] == boundary:
            self._write("feature_map", boundary, _cells_first(state.feature_map), source, target)
        for slot in slots:
            slot.boundary = boundary

    def load(self, boundary: int, task_ids: Sequence[int]) -> ReuseState:
        """Gather what these tasks were left with by stage `boundary`; a task may be named more than once.

        Shape: -> state [B, ...], one row per task id

        Raises:
            LookupError: when a task holds no state of that stage.
        """
        for task_id in task_ids:
            slot = self._slots.get(task_id)
            if slot is None or slot.boundary != boundary:
                raise LookupError(f"task {task_id} holds no reuse state of stage {boundary}")
        index = self._index([self._slots[task_id].row for task_id in task_ids])
        return ReuseState(
            tokens=self._read("tokens", boundary, index),
            relations=self._read("relations", boundary, index),
            logits=self._read("logits", boundary, index),
            feature_map=_channels_first(self._read("feature_map", self._map_origins[boundary], index)),
        )

    def release(self, task_ids: Sequence[int]) -> None:
        """Free the tasks' slots; a task without one is passed over."""
        for task_id in task_ids:
            slot = self._slots.pop(task_id, None)
            if slot is not None:
                self._free.append(slot.row)

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self._device)

    def _write(self, kind: str, boundary: int, value: Tensor | None, source: Tensor, target: Tensor) -> None:
        if value is None:
            return
        tensor = self._tensors.get((kind, boundary))
        if tensor is None:
            tensor = self._tensors[kind, boundary] = self._allocate(value)
        tensor.index_copy_(0, target, value.index_select(0, source))

    def _allocate(self, value: Tensor) -> Tensor:
        try:
            return value.new_empty((self.capacity, *value.shape[1:]))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            needed_bytes = (self.bytes_per_image + value[:1].nbytes) * self.capacity
            raise StateMemoryError(
                f"no memory for the reuse state of max_inflight = {self.capacity} images: it takes "
                f"{needed_bytes / 1e6:.1f} MB or more"
            ) from error

    def _read(self, kind: str, boundary: int, index: Tensor) -> Tensor | None:
        tensor = self._tensors.get((kind, boundary))
        return None if tensor is None else tensor.index_select(0, index)


def _cells_first(map_BCHW: Tensor | None) -> Tensor | None:
    """The order in which a stem leaves its map in memory, so that rows are copied whole.

    Shape: [B, C, H, W] -> [B, H, W, C]
    """
    return None if map_BCHW is None else rearrange(map_BCHW, "b c h w -> b h w c")


def _channels_first(map_BHWC: Tensor | None) -> Tensor | None:
    return None if map_BHWC is None else rearrange(map_BHWC, "b h w c -> b c h w")
