"""Stores the reuse state of images between stages, in device memory that is allocated once.

Shapes: C capacity of the pool, B batch.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from models.reuse import ReuseState
from service.engine.device_errors import is_out_of_memory
from service.errors import ServiceError


class StateMemoryError(ServiceError):
    """No memory for the reuse state of `max_inflight` images; raised during the warm-up."""


class StatePool:
    """One row per image for its whole walk, in one tensor [C, ...] per kind of state and boundary.

    Boundary k lies between stages k and k + 1. Each boundary has its own tensors: a stage never overwrites its input,
    so a failed batch can run again. A feature map is stored at the boundary where it was made or changed, and later
    stages read it there. Tensors are allocated when the first state of their kind arrives, during the warm-up.

    Args:
        capacity: the most images with state at a time.
        map_origins: for each boundary, the boundary that stores its feature map.
    """

    def __init__(self, capacity: int, device: torch.device, map_origins: Sequence[int]) -> None:
        self.capacity = capacity
        self._device = device
        self._map_origins = tuple(map_origins)
        self._free = list(range(capacity))
        self._rows: dict[int, int] = {}
        self._boundaries: dict[int, int] = {}  # the last one that was written completely, by task
        self._tensors: dict[tuple[str, int], Tensor] = {}

    def __len__(self) -> int:
        """Number of images with state."""
        return len(self._rows)

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image's state, over the boundaries and kinds of state seen so far."""
        return sum(tensor.nbytes for tensor in self._tensors.values()) // self.capacity

    def store(self, boundary: int, task_ids: Sequence[int], state: ReuseState, rows: Sequence[int]) -> None:
        """Write these rows of a batch's state into the tasks' rows of the pool.

        Shape: state [B, ...]; as many rows as task_ids

        Raises:
            RuntimeError: when the pool is full; then nothing is written.
            StateMemoryError: when there is no memory for a new kind of state.
        """
        arrivals = [task_id for task_id in task_ids if task_id not in self._rows]
        if len(arrivals) > len(self._free):
            raise RuntimeError(f"no reuse state slots for {len(arrivals)} images; {len(self._free)} are free")
        for task_id in arrivals:
            self._rows[task_id] = self._free.pop()

        parts = {"tokens": state.tokens, "relations": state.relations, "logits": state.logits}
        if state.feature_map is not None and self._map_origins[boundary] == boundary:
            # Channels last, as in a stem's output, so that rows are contiguous.
            parts["feature_map"] = rearrange(state.feature_map, "b c h w -> b h w c")
        source, target = self._index(rows), self._index([self._rows[task_id] for task_id in task_ids])
        for kind, value in parts.items():
            if value is not None:
                if (kind, boundary) not in self._tensors:
                    self._tensors[kind, boundary] = self._allocate(value)
                self._tensors[kind, boundary].index_copy_(0, target, value.index_select(0, source))
        self._boundaries.update(dict.fromkeys(task_ids, boundary))

    def load(self, boundary: int, task_ids: Sequence[int]) -> ReuseState:
        """Gather the state that stage `boundary` stored for these tasks; ids may repeat.

        Shape: -> state [B, ...], one row per task id

        Raises:
            LookupError: when a task holds no state of that stage.
        """
        for task_id in task_ids:
            if self._boundaries.get(task_id) != boundary:
                raise LookupError(f"task {task_id} holds no reuse state of stage {boundary}")
        index = self._index([self._rows[task_id] for task_id in task_ids])
        origins = {"feature_map": self._map_origins[boundary]}
        parts = {
            kind: tensor.index_select(0, index)
            for (kind, origin), tensor in self._tensors.items()
            if origin == origins.get(kind, boundary)
        }
        if "feature_map" in parts:
            parts["feature_map"] = rearrange(parts["feature_map"], "b h w c -> b c h w")
        return ReuseState(**parts)

    def release(self, task_ids: Sequence[int]) -> None:
        """Free the rows of these tasks; tasks without state are allowed."""
        for task_id in task_ids:
            self._boundaries.pop(task_id, None)
            if task_id in self._rows:
                self._free.append(self._rows.pop(task_id))

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self._device)

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
